"""Measurements, limits, comparisons and differences as plain data, with their rules. No torch, no pytest, no disk."""
