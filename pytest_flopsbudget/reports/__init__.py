"""Turn verdicts into text for people and for programs. This package does not need torch."""
