"""Leave tracers and compilers alone while a watch lasts.

`torch.jit.trace`, `torch.fx` and `make_fx` record what a model does. A dispatch mode would be part of what they see. What
runs while they record is no work of the test: the model that they make is counted when it runs.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.torch_private import (
    DispatchMode,
    disable_current_modes,
    pop_mode,
    push_mode,
    tracing_functions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def watches_aside() -> Iterator[None]:
    """Let no watch on this thread see operators and calls of modules. The test's own dispatch modes stay active."""
    with disable_current_modes() as modes:
        watches = [mode for mode in modes if _only_observes(mode)]
        others = [mode for mode in modes if not _only_observes(mode)]
        were_aside = [watch.steps_aside for watch in watches]
        for mode in reversed(others):
            push_mode(mode)
        for watch in watches:
            watch.steps_aside = True
        try:
            yield
        finally:
            for watch, was_aside in zip(watches, were_aside, strict=True):
                watch.steps_aside = was_aside
            for mode in others:
                pop_mode(_key(mode))


def _only_observes(mode: Any) -> bool:
    return isinstance(mode, DispatchMode) and mode.only_observes


def _key(mode: Any) -> Any:
    """Return the key of the stack that the mode is on; None for the usual one."""
    keys = vars(mode)
    found = keys.get("_dispatch_key")
    return keys.get("_mode_key") if found is None else found


@contextmanager
def tracers_undisturbed() -> Iterator[None]:
    """Step aside, while the context lasts, for all functions of PyTorch that record what a model does."""
    with patched((owner, name, _undisturbed(function)) for owner, name, function in tracing_functions()):
        yield


def _undisturbed(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def undisturbed(*args: Any, **kwargs: Any) -> Any:
        with watches_aside():
            return function(*args, **kwargs)

    return undisturbed
