"""What the pyproject and markers say: settings, limits, budgets and devices."""
