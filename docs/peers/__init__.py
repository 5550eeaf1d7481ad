"""Shared by the comparison and the benchmark: counters, models of known cost, a process for each measurement."""
