"""Measurements, limits, comparisons and differences as plain data, with their rules, without torch and pytest."""
