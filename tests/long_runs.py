"""The number of examples in tests that may run for hours."""

from __future__ import annotations

import os

#: `make torture` sets this.
LONG = bool(os.environ.get("FLOPSBUDGET_TORTURE"))


def examples(few: int, *, of_many: int) -> int:
    """Return ``few`` in an ordinary run, and ``of_many`` if `make torture` runs the tests."""
    return of_many if LONG else few
