"""Hints on calls of the fixture in which the model raised an error, if the arguments show what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def add_hint(error: Exception, args: Any) -> None:
    """Add a hint to the model's error if ``args`` in ``flops_budget(model, args)`` are probably in a wrong form.

    Python and pytest show the hint below the message of the error.
    """
    hint = _hint(error, args)
    if hint:
        # `BaseException.add_note` is new in Python 3.11. pytest shows the notes on every version.
        error.__notes__ = [*getattr(error, "__notes__", ()), hint]


def _hint(error: Exception, args: Any) -> str:
    if isinstance(args, Mapping):
        return (
            "hint: the dict was passed to the model as one argument; to pass its items by name: "
            "flops_budget(model, kwargs={...})"
        )
    if not isinstance(error, TypeError) or "positional argument" not in str(error):
        return ""
    if isinstance(args, (tuple, list)) and len(args) > 1 and re.search(r"takes .* but \d+ ", str(error)):
        items = "two items" if len(args) == 2 else f"{len(args):,} items"  # noqa: PLR2004 -- a pair
        return (
            f"hint: the {items} were passed to the model as separate arguments; if they are a batch such as (input, "
            "target), pass the input alone: flops_budget(model, batch[0])"
        )
    if "missing" in str(error):
        return "hint: pass several inputs as a tuple, flops_budget(model, (a, b)), or by name with kwargs={...}"
    return ""
