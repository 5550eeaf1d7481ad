"""Check once per process that PyTorch still calls modules and recurrent layers in the ways that counting relies on.

If a release of PyTorch changes one of these ways, counts become wrong. Without this check, nothing else would show it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NoReturn

import torch

from pytest_flopsbudget.counting.isolation.global_state import state_restored
from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.torch_private import recurrent_functions
from pytest_flopsbudget.results.data import PLEASE_REPORT


@lru_cache(maxsize=1)
def canary_notes() -> tuple[str, ...]:
    """Return a note for the user for each check in this file that fails.

    The first call takes a quarter of a millisecond.
    """
    notes = []
    if not calls_go_through_the_slot():
        # If the check of the call fails, the attribute `forward` of the clones still follows modules.
        notes.append(_report("modules", "the work of hooks counts for the calling module"))
    if recurrent_functions is not None and not recurrent_layers_go_through_functions():
        notes.append(_report("recurrent layers", "their bytes and launches may be wrong"))
    return tuple(notes)


def _report(called: str, effect: str) -> str:
    return (
        f"PyTorch {torch.__version__} calls {called} in a way that this version of pytest-flopsbudget does not know, "
        f"and {effect}; {PLEASE_REPORT}, with this text"
    )


def calls_go_through_the_slot() -> bool:
    """Return whether a call of a module uses the attribute in which `torch.nn.Module.compile` stores a function."""
    parent, seen = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity()), list[None]()
    for child in parent.children():
        child.__dict__["_compiled_call_impl"] = seen.append
    parent(None)
    return len(seen) == len(parent)


class _SeenError(Exception):
    """The replacement of a function raises this error to show that the function was called."""


def recurrent_layers_go_through_functions() -> bool:
    """Return whether `torch.nn.LSTM` calls the function that a run on shapes replaces."""

    def seen(*_args: Any) -> NoReturn:
        raise _SeenError

    with state_restored(), torch.device("meta"), patched([(recurrent_functions, "lstm", seen)]):
        layer = torch.nn.LSTM(1, 1)
        try:
            layer(torch.empty(1, 1, 1))
        except _SeenError:
            return True
    return False
