"""The empty dict of hooks that the clones of modules share. Nearly no module has hooks."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


class HooksRequestedError(Exception):
    """A hook was registered on a clone that shares `EmptyHooks`. The clones have to be made with separate dicts."""


class EmptyHooks(OrderedDict[int, Any]):
    """One empty dict that all clones without hooks share. Separate dicts would be ten for each clone."""

    def __init__(self) -> None:
        super().__init__()
        #: Whether code tried to register a hook here, even if the model caught the exception.
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
        """Return an empty dict: code that copies the hooks of a module then finds no hooks."""
        return OrderedDict()
