"""Models that are spread over several processes, counted for one rank."""
