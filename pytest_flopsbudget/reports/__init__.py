"""Turn verdicts into text for people and for programs. This package needs neither torch nor tracing."""
