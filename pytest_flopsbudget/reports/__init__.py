"""Verdicts, put so that a person or a machine can read them. Needs neither torch nor tracing."""
