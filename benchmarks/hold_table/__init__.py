"""What holding masks costs, and where it holds: for ``benchmarks/hold.py``."""
