"""Tracers: they see every operator once, and credit its work to a module and a phase."""
