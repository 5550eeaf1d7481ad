"""The base of `Cloner`: which clone belongs to which original, and which clones are still empty."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator


class BaseCloner:
    """Keeps one clone for each original. If two objects refer to one original, their clones refer to one clone.

    A clone is registered while it is still empty, and is filled later. So objects may refer to each other in a circle.
    The clones are filled in a loop, so a chain of objects may be longer than Python's recursion limit.
    """

    def __init__(self) -> None:
        self._clones: dict[int, Any] = {}
        # Originals are kept alive with their clones, so that their ids stay unique.
        self.originals: list[Any] = []
        #: (function, original, clone): the function copies the content of the original into the clone.
        self._unfilled: deque[tuple[Callable[[Any, Any], None], Any, Any]] = deque()
        #: (function, items, clone) for sets and dicts with keys whose clones may have a ``__hash__`` defined in Python.
        #: Such a hash may depend on attributes of the key, so all other clones are filled first.
        self._unfilled_by_key: deque[tuple[Callable[[Any, Any], None], Any, Any]] = deque()

    def clones(self) -> Iterator[tuple[Any, Any]]:
        """Yield (original, clone) for everything that was cloned."""
        return ((original, self._clones[id(original)]) for original in self.originals)

    def has_clone_of(self, original: Any) -> bool:
        """Return whether ``original`` was cloned."""
        return id(original) in self._clones

    def clone_of(self, original: Any) -> Any:
        """Return the clone of ``original``, an object that was cloned."""
        return self._clones[id(original)]

    def cloned_ids(self) -> Container[int]:
        """Return the ids of all objects that were cloned."""
        return self._clones

    def _register(self, original: Any, clone: Any) -> Any:
        self._clones[id(original)] = clone
        self.originals.append(original)
        return clone

    def _fill_later(self, fill: Callable[[Any, Any], None], original: Any, clone: Any) -> Any:
        """Return ``clone`` at once. `_fill_all` will call ``fill(original, clone)`` later."""
        self._unfilled.append((fill, original, clone))
        return clone

    def _fill_all(self) -> None:
        """Fill all registered clones. If filling registers more clones, fill them too."""
        unfilled, by_key = self._unfilled, self._unfilled_by_key
        try:
            while unfilled or by_key:
                fill, original, clone = (unfilled or by_key).popleft()
                fill(original, clone)
        finally:
            unfilled.clear()
            by_key.clear()

    def _clone_value(self, value: Any) -> Any:
        """Return the clone of ``value``, or ``value`` itself if the original and the clone of a model can share it."""
        raise NotImplementedError
