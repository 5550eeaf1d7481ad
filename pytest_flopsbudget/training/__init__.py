"""What training a language model costs: published formulas, utilization, whole runs."""
