"""Limit patches to the thread that measures, and recognize threads that a measured model started."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.torch_private import keep_uncompiled

if TYPE_CHECKING:
    from collections.abc import Callable


def on_this_thread(replacement: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls ``replacement`` on the current thread, and ``original`` on all other threads."""
    thread = threading.get_ident()

    def either(*args: Any, **kwargs: Any) -> Any:
        return (replacement if threading.get_ident() == thread else original)(*args, **kwargs)

    keep_uncompiled(either)
    return either


_LOCAL = threading.local()


def serves_a_measurement() -> bool:
    """Return whether a model started this thread during a measurement. The measurement may wait for such a thread."""
    return bool(getattr(_LOCAL, "works", False))
