"""Arguments for all runs of pytest that tests start."""

#: pytest-randomly would reorder the tests of an inner run, whose output tests compare. Without it, this does nothing.
IN_ORDER = ("-p", "no:randomly")

#: Plugins that most inner runs do not need. A run in one process takes half of the time without them. A test that needs
#: one of them adds `WITH`.
_NOT_NEEDED = ("xdist", "xdist.looponfail", "anyio", "hypothesispytest", "random_order", "rerunfailures")
ALONE = tuple(argument for name in _NOT_NEEDED for argument in ("-p", f"no:{name}"))

#: What adds such a plugin to a run: name → arguments.
WITH = {name: ("-p", name) for name in _NOT_NEEDED}
