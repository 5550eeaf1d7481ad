"""The peak rates of devices, and the minimum time of work on a device. The code needs neither torch nor pytest."""
