"""Leave tracers and compilers alone while a watch lasts.

`torch.jit.trace`, `torch.fx` and `make_fx` record what a model does, and would record a dispatch mode too. What runs
while they record is no work of the test: the model that they make is counted when it runs.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.isolation.modes import observers_aside
from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.torch_private import tracing_functions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def tracers_undisturbed() -> Iterator[None]:
    """Step aside, while the context lasts, for all functions of PyTorch that record what a model does."""
    with patched((owner, name, _undisturbed(function)) for owner, name, function in tracing_functions()):
        yield


def _undisturbed(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def undisturbed(*args: Any, **kwargs: Any) -> Any:
        with observers_aside():
            return function(*args, **kwargs)

    return undisturbed
