"""What comparison and benchmark share: counters, models of known cost, a process for each measurement."""
