"""Tables by storage, whose entries end together with their storages."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

_Value = TypeVar("_Value")

#: The errors that tensors without a storage raise.
WITHOUT_STORAGE = (NotImplementedError, RuntimeError)


def storage_address(tensor: torch.Tensor) -> int:
    """Return a number that all views of one storage have in common; 0 if the tensor has no storage."""
    try:
        address: int = tensor.untyped_storage()._cdata
    except WITHOUT_STORAGE:  # a sparse tensor consists of other tensors
        return 0
    return address


class StorageTable(dict[int, tuple[_Value, "weakref.ref[torch.UntypedStorage]"]]):
    """A dict: `_cdata` of a storage → (value, reference to the storage). It keeps no storage alive.

    An entry is removed when its storage ends, so another storage with the same `_cdata` finds no entry. The references
    are Python's weak references. In PyTorch 2.6 to 2.9, PyTorch's `StorageWeakRef` would keep the Python object of a
    storage alive.
    """

    def __init__(self) -> None:
        super().__init__()
        self._weakly = weakref.ref(self)

    def keep(self, storage: torch.UntypedStorage, value: _Value) -> None:
        """Set the value of a storage."""
        key, table = storage._cdata, self._weakly

        def forget(_: object) -> None:
            entries = table()
            if entries is not None:
                entries.pop(key, None)

        self[key] = value, weakref.ref(storage, forget)
