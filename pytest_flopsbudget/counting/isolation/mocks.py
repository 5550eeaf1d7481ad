"""Keep mocks (`unittest.mock`, pytest-mock) from recording the calls of a measured model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.isolation.threads import on_this_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

#: The modules that define mocks: the standard library's, and that of the package mock, which pytest-mock can use.
_MODULES = ("unittest.mock", "mock.mock")


def mocks_record_nothing() -> AbstractContextManager[None]:
    """Let mocks answer calls of this thread without recording them, while the context lasts.

    A record holds the arguments of the call, which are tensors of the measurement, and it would change what the test
    asserts later.
    """
    return patched(_patches())


def _patches() -> Iterator[tuple[Any, str, Any]]:
    for name in _MODULES:
        kind = getattr(sys.modules.get(name), "CallableMixin", None)
        record = getattr(kind, "_increment_mock_call", None)
        if record is not None:
            yield kind, "_increment_mock_call", on_this_thread(_ignore, record)


def _ignore(*_: object, **__: object) -> None:
    pass
