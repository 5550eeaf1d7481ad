"""Sum up a finished trace, and build the result from it."""
