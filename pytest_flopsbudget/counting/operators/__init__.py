"""What an operator is, and what one call of it costs."""
