"""Arguments for all runs of pytest that tests start."""

#: pytest-randomly would reorder the tests of an inner run, whose output tests compare. Without it, this does nothing.
IN_ORDER = ("-p", "no:randomly")

#: A run in one process does not need pytest-xdist, and starts in three quarters of the time without it.
WITHOUT_WORKERS = ("-p", "no:xdist", "-p", "no:xdist.looponfail")
