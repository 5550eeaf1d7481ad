"""Clones of models and inputs, so that a measurement never runs the original."""
