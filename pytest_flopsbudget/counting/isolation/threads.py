"""Threads: what holds for the one that measures alone, and what others compute for it, which is named as unknown."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def on_this_thread(replacement: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is another for the thread that asks for it now, and for all others what it was."""
    thread = threading.get_ident()

    def either(*args: Any, **kwargs: Any) -> Any:
        return (replacement if threading.get_ident() == thread else original)(*args, **kwargs)

    return either


_LOCAL = threading.local()


def serves_a_measurement() -> bool:
    """Whether this thread was started by a model that is being measured, and that may be waiting for it."""
    return bool(getattr(_LOCAL, "works", False))
