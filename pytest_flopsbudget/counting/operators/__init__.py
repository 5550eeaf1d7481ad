"""Facts about operators, and the work of one call of an operator."""
