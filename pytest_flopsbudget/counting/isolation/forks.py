"""Keep a forked process usable if another thread of its parent was measuring at the time of the fork.

The thread that measured does not exist in the new process, so its measurement never ends there. As soon as the new
process begins, it undoes all changes that this measurement made to the process.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class MeasuringLock:
    """A lock that a thread holds while it measures. One thread can take the lock several times.

    If a thread forks the process while another thread holds the lock, the lock is free in the new process.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _LOCKS.append(self)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait until no other thread holds the lock, and hold the lock while the context lasts."""
        with self._lock:  # a fork may replace `self._lock`, but this thread releases the lock that it took
            yield

    def renew(self) -> None:
        """Replace the lock in a forked process by a free lock.

        The thread that held the old lock does not exist in the forked process.
        """
        self._lock = threading.RLock()


_LOCKS: list[MeasuringLock] = []
#: (thread, undo) for each change that a running measurement made to the process, in the order of the changes.
_CHANGES: list[tuple[int, Callable[[], object]]] = []


def note_change(undo: Callable[[], object]) -> tuple[int, Callable[[], object]]:
    """Note that this thread changed something that all threads of the process share.

    If another thread forks the process, the new process calls ``undo`` when it begins.

    Returns:
        The change, for `forget_change`. Call `forget_change` when the change is undone.
    """
    change = threading.get_ident(), undo
    _CHANGES.append(change)
    return change


def forget_change(change: tuple[int, Callable[[], object]]) -> None:
    """Note that a change was undone."""
    _CHANGES.remove(change)


@contextmanager
def process_changes() -> Iterator[ExitStack]:
    """Yield a stack for contexts and callbacks that change the whole process, and not only this thread.

    The stack is closed at the end of this context. If another thread forks, the new process closes its copy of the
    stack when it begins.
    """
    with ExitStack() as stack:
        change = note_change(stack.close)
        try:
            yield stack
        finally:
            forget_change(change)


def _begin_forked_process() -> None:
    for lock in _LOCKS:
        lock.renew()
    this = threading.get_ident()
    for thread, undo in reversed(_CHANGES):
        if thread != this:
            undo()
    _CHANGES[:] = [change for change in _CHANGES if change[0] == this]


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_begin_forked_process)
