"""The table of kernels: what ``benchmarks/kernels.py`` and ``benchmarks/cuda.py`` measure, and how they show it."""
