"""Metrics and numbers with units: parse, format and compare them. This package imports nothing else of the plugin."""
