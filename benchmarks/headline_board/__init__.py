"""The parts of ``benchmarks/headline.py``."""
