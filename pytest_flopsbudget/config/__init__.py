"""Read settings, limits, budgets and devices from the pyproject and from markers."""
