"""The dict of hooks that clones share, since nearly no module has hooks."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


class HooksRequestedError(Exception):
    """A hook was registered on a clone that shares `EmptyHooks`: the clones have to have their own dicts."""


class EmptyHooks(OrderedDict[int, Any]):
    """Takes the place of the hooks of all clones whose modules have none, instead of ten dicts in each clone."""

    def __init__(self) -> None:
        super().__init__()
        #: Whether a hook was to be registered here, even if the exception was caught.
        self.requested = False

    def __setitem__(self, key: int, value: Any) -> None:
        self.requested = True
        raise HooksRequestedError

    def __deepcopy__(self, memo: dict[int, Any]) -> EmptyHooks:
        return self  # copies of modules have no hooks either

    def __reduce__(self) -> Any:
        self.requested = True
        raise HooksRequestedError

    def copy(self) -> Any:
        """Return an empty dict, so that code which copies the hooks sees none."""
        return OrderedDict()
