"""Today's FLOP counters, measured on models whose FLOPs are known in closed form: ``make comparison``."""
