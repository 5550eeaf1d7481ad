"""Make a forked process usable while another thread of its parent measured.

That thread does not exist in the new process, so that its measurement never ends there. All that it changed in the
process is undone as soon as the new process begins.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class MeasuringLock:
    """A lock that one thread holds while it measures, and that is free in a forked process, unless that thread forked.

    It can be taken several times by one thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _LOCKS.append(self)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait until no other thread holds the lock, and hold it."""
        with self._lock:  # the one of the process that began to wait
            yield

    def renew(self) -> None:
        """Forget the threads of the parent process. A holder of the old lock releases that one."""
        self._lock = threading.RLock()


_LOCKS: list[MeasuringLock] = []
#: What measurements under way changed in the process: (thread, function that undoes it), in the order of the changes.
_CHANGES: list[tuple[int, Callable[[], object]]] = []


def note_change(undo: Callable[[], object]) -> tuple[int, Callable[[], object]]:
    """Note that this thread changed the process: a process that another thread forks calls ``undo`` as it begins.

    Returns:
        What `forget_change` takes when the change is undone.
    """
    change = threading.get_ident(), undo
    _CHANGES.append(change)
    return change


def forget_change(change: tuple[int, Callable[[], object]]) -> None:
    """Note that a change is undone."""
    _CHANGES.remove(change)


@contextmanager
def process_changes() -> Iterator[ExitStack]:
    """Return a stack for contexts and callbacks that change the process, and not only this thread.

    It is closed at the end; in a process that another thread forks, at the beginning of that process.
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


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_forked_process)
