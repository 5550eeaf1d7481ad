"""Counting: runs a model once and says what it costs. Needs torch, never pytest."""
