"""Find out how the costs of a model grow with its sizes, from a few exact counts."""
