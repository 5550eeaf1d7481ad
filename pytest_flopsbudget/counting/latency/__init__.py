"""Measured time: the benchmark, the copy that it runs, and the machine that it runs on."""
