"""Measurements in the file formats of profilers."""
