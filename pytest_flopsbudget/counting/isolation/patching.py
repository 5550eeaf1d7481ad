"""Replace attributes of PyTorch's modules and classes while a context lasts."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_flopsbudget.counting.isolation.forks import forget_change, note_change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager


#: (owner, attribute, value).
_Patch = tuple[Any, str, Any]
_ABSENT = object()
_Function = TypeVar("_Function", bound="Callable[..., Any]")
#: (thread, old values that the patches of the thread replaced) for each active context; the innermost context is last.
_ACTIVE: list[tuple[int, list[_Patch]]] = []


@contextmanager
def patched(patches: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """Set each (owner, attribute, value), and restore the old values at the end.

    This is ten times faster than `mock.patch`.
    """
    before: list[_Patch] = []
    change = note_change(partial(_restore, before))
    active = threading.get_ident(), before
    _ACTIVE.append(active)
    try:
        for owner, name, value in patches:
            before.append((owner, name, vars(owner).get(name, _ABSENT)))
            setattr(owner, name, value)
        yield
    finally:
        _restore(before)
        _ACTIVE[:] = [each for each in _ACTIVE if each is not active]
        forget_change(change)


def named_like(original: Callable[..., Any]) -> Callable[[_Function], _Function]:
    """Return a decorator that gives a replacement the name of ``original``, because PyTorch reads such names.

    The decorator does less than `functools.wraps`, since every measurement makes replacements.
    """

    def name(replacement: _Function) -> _Function:
        replacement.__name__ = original.__name__
        return replacement

    return name


class SharedPatches:
    """Patches that several threads may need at once. They are undone when the last context ends.

    With separate patches, the first thread to end would undo patches that another thread still needs.
    """

    def __init__(self, patches: Callable[[], Iterable[tuple[Any, str, Any]]]) -> None:
        """Patch nothing yet.

        Args:
            patches: returns each (owner, attribute, value). It is called when the first context begins.
        """
        self._patches = patches
        self._lock = threading.Lock()
        self._uses = 0
        self._patching: AbstractContextManager[None]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Keep the patches in place while the context lasts."""
        with self._lock:
            if not self._uses:
                self._patching = patched(tuple(self._patches()))
                self._patching.__enter__()
            self._uses += 1
        try:
            yield
        finally:
            with self._lock:
                self._uses -= 1
                if not self._uses:
                    self._patching.__exit__(None, None, None)


@contextmanager
def unpatched() -> Iterator[None]:
    """Undo all patches that this thread made with `patched`, and apply these patches again when the context ends."""
    this = threading.get_ident()
    patches = [patch for thread, before in _ACTIVE if thread == this for patch in before]
    again = [(owner, name, vars(owner).get(name, _ABSENT)) for owner, name, _ in patches]
    _restore(patches)
    try:
        yield
    finally:
        _restore(list(reversed(again)))


def _restore(before: list[_Patch]) -> None:
    for owner, name, value in reversed(before):
        if value is not _ABSENT:
            setattr(owner, name, value)
        elif name in vars(owner):  # an outer `unpatched` may have removed it already
            delattr(owner, name)
