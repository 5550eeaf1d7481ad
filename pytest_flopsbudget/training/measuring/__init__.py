"""Counts for formulas of training; needs PyTorch."""
