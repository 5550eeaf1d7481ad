"""The number of examples for tests that could run for hours."""

from __future__ import annotations

import os

#: Set by `make torture`.
LONG = bool(os.environ.get("FLOPSBUDGET_TORTURE"))


def examples(few: int, *, of_many: int) -> int:
    """Return ``few`` in an ordinary run of the tests, and ``of_many`` in `make torture`."""
    return of_many if LONG else few
