"""Output metadata of operators without data, equal to what the CPU would return."""
