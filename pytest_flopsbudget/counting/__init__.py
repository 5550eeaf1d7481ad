"""Counting: run a model once and find its costs. This package needs PyTorch and never imports pytest."""
