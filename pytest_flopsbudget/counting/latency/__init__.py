"""Measured time: the benchmark, the clone that it runs, and the machine."""
