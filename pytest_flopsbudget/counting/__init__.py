"""Counting: run a model once and find what it costs. Needs torch, never pytest."""
