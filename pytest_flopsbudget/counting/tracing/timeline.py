"""The bytes alive over the course of a run, in a list of bounded length."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The maximum number of points. A run of millions of operators has no more points than this.
_MAX_POINTS = 400

_KEPT: ContextVar[bool] = ContextVar("keeps timelines", default=False)


@contextmanager
def keeping_timelines(keep: bool) -> Iterator[None]:
    """Let measurements that begin in the context keep a timeline of their memory, if ``keep`` is true."""
    before = _KEPT.get()
    _KEPT.set(keep)
    try:
        yield
    finally:
        _KEPT.set(before)  # `reset` would need the same context, but a generator may resume in another one


class Timeline:
    """The maximum of the bytes alive in each of many equal parts of a run."""

    def __init__(self) -> None:
        self.points: list[int] = []
        #: The number of values in each point, and in the point that is being filled.
        self._stride = 1
        self._filled = 0
        self._maximum = 0

    def add(self, alive: int) -> None:
        """Add the number of bytes that are alive after one more operator."""
        self._maximum = max(self._maximum, alive) if self._filled else alive
        self._filled += 1
        if self._filled < self._stride:
            return
        self.points.append(self._maximum)
        self._filled = 0
        if len(self.points) == _MAX_POINTS:
            self.points = [max(pair) for pair in zip(self.points[::2], self.points[1::2], strict=True)]
            self._stride *= 2

    def close(self) -> None:
        """Add a last point for the operators after the last full point."""
        if self._filled:
            self.points.append(self._maximum)
            self._filled = 0


def new_timeline() -> Timeline | None:
    """Return a new timeline inside of ``keeping_timelines(True)``; else None."""
    return Timeline() if _KEPT.get() else None
