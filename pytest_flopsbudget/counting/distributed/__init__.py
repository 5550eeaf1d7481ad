"""Models that run on several processes, counted for one rank."""
