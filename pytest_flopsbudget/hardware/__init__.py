"""The best performance of devices, and the minimum time of work on them. Needs neither torch nor pytest."""
