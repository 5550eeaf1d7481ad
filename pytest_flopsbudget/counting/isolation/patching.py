"""Replace attributes of PyTorch's modules and classes for the time of a context."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.isolation.forks import forget_change, note_change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_ABSENT = object()


@contextmanager
def patched(patches: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """Set each (owner, attribute, value), and restore the old values at the end; ten times faster than `mock.patch`."""
    before: list[tuple[Any, str, Any]] = []
    change = note_change(partial(_restore, before))
    try:
        for owner, name, value in patches:
            before.append((owner, name, vars(owner).get(name, _ABSENT)))
            setattr(owner, name, value)
        yield
    finally:
        _restore(before)
        forget_change(change)


def _restore(before: list[tuple[Any, str, Any]]) -> None:
    for owner, name, value in reversed(before):
        if value is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, value)
