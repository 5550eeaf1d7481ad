"""What devices can do at best, and how long work takes on them at least. Needs neither torch nor pytest."""
