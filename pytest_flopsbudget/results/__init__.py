"""Plain data and the rules on it: measurements, limits, comparisons, differences. No torch, no pytest, no disk."""
