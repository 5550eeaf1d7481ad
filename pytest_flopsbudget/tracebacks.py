"""Remove the frames of this package from tracebacks, so that users see the frames of their model."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

_PACKAGE = str(Path(__file__).parent)
#: The file of PyTorch through which Python code calls an operator object. The tracer calls operators so; models do not.
_OPERATORS = str(Path("torch", "_ops.py"))


def without_own_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the frames of this package, and without operators that this package called."""
    entries = []
    own = False
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        own = file.startswith(_PACKAGE) or (own and file.endswith(_OPERATORS))
        if not own:
            entries.append(traceback)
        traceback = traceback.tb_next
    rest: TracebackType | None = None
    for entry in reversed(entries):
        rest = TracebackType(rest, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return rest
