"""Compare FLOP counters on models whose FLOPs are known in closed form: ``make comparison``."""
