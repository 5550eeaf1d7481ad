"""Measure the time of models, and name the machine that runs them."""
