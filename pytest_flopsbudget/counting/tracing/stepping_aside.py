"""Keep a watch from disturbing tracers and compilers.

`torch.jit.trace`, `torch.fx` and `make_fx` record what a model does, and would record the watch's dispatch mode too.
The operators that run during a recording are no work of the test. The recorded model is counted when it runs.
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
    """While the context lasts, take the watch off PyTorch's stack in each function that records what a model does."""
    with patched((owner, name, _undisturbed(function)) for owner, name, function in tracing_functions()):
        yield


def _undisturbed(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def undisturbed(*args: Any, **kwargs: Any) -> Any:
        with observers_aside():
            return function(*args, **kwargs)

    return undisturbed
