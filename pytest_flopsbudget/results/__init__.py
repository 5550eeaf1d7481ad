"""Plain data and the rules on it: measurements, limits, baselines, differences. Needs neither torch nor pytest."""
