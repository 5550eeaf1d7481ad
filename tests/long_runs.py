"""How much of what could run for hours is run."""

from __future__ import annotations

import os

#: Set by `make torture`.
LONG = bool(os.environ.get("FLOPSBUDGET_TORTURE"))


def examples(few: int, *, of_many: int) -> int:
    """``few`` in every run of the tests, ``of_many`` when there is time."""
    return of_many if LONG else few
