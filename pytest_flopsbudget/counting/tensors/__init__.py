"""Tensors: their metadata, and how to find them in nested objects."""
