"""How long counting takes, beside other counters and beside running the model: ``make bench``."""
