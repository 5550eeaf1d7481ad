"""The HTML page of a run: one file without addresses from outside, readable without scripts."""
