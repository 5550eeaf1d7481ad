"""Tracers: see every operator once and credit it to a module and a phase."""
