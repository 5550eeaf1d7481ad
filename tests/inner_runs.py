"""Arguments for all runs of pytest that tests start."""

#: pytest-randomly would reorder the tests of an inner run, whose output tests compare. Without it, this does nothing.
IN_ORDER = ("-p", "no:randomly")
