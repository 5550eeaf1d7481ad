"""Measure how long counting takes, compared with other counters and with running the model: ``make bench``."""
