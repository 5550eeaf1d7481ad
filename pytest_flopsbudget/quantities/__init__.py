"""Metrics, and numbers with units: parsed, written and compared. Imports nothing else of this package."""
