"""Code that the comparison and the benchmark share."""
