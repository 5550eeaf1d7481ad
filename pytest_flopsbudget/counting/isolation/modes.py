"""Take this package's dispatch modes off PyTorch's stack for a while. The modes of other packages stay on the stack."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.torch_private import (
    DispatchMode,
    disable_current_modes,
    flagged_as_active,
    pop_mode,
    push_mode,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def observers_aside() -> Iterator[None]:
    """Hide this thread's operators from those modes of this package that only observe, while the context lasts."""
    with _without(lambda mode: isinstance(mode, DispatchMode) and mode.only_observes):
        yield


@contextmanager
def our_modes_aside() -> Iterator[None]:
    """While the context lasts, hide the operators of this thread from all modes of this package."""
    with _without(lambda mode: isinstance(mode, DispatchMode)):
        yield


@contextmanager
def _without(is_taken: Any) -> Iterator[None]:
    with disable_current_modes() as modes:
        taken = [mode for mode in modes if is_taken(mode)]
        others = [mode for mode in modes if not is_taken(mode)]
        were_aside = [mode.steps_aside for mode in taken]
        for mode in reversed(others):
            push_mode(mode)
        for mode in taken:
            mode.steps_aside = True
        try:
            with flagged_as_active(others):
                yield
        finally:
            for mode, was_aside in zip(taken, were_aside, strict=True):
                mode.steps_aside = was_aside
            for mode in others:
                pop_mode(_key(mode))


def _key(mode: Any) -> Any:
    """Return the key of the stack that PyTorch keeps the mode on; None for the usual stack."""
    keys = vars(mode)
    found = keys.get("_dispatch_key")
    return keys.get("_mode_key") if found is None else found
