"""Turn verdicts into texts for people and for programs. Needs neither torch nor tracing."""
