"""Copies of caches without data: what a cache consists of, how many bytes it has, and new caches of the same kind."""

from __future__ import annotations

import io
import pickle
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, is_wrapper
from pytest_flopsbudget.counting.tensors.storages import storage_address
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

#: Objects that a copy shares with the original.
_SHARED = (type, FunctionType, BuiltinFunctionType, ModuleType)


class _Spec(NamedTuple):
    """What a tensor is, without its data."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    #: The values, if they are known: lengths and positions.
    values: torch.Tensor | None
    #: The bytes that the tensor adds to those before it in the cache.
    bytes: int


class Snapshot:
    """A cache without data. It keeps no tensor of the cache, so that the run that made the cache can end.

    Args:
        value: the cache: an object of any class that Python can pickle, with tensors in it.
        known_value: returns the values of a small tensor on the meta device; None if they are unknown.

    Raises:
        UsageError: the cache has parts that cannot be copied, such as open files.
    """

    def __init__(self, value: Any, known_value: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
        #: The tensors, as `_Spec`, and the objects that copies share, in the order in which the cache has them.
        self.parts: list[_Spec | Any] = []
        #: The keys of the storages of the tensors; see `storage_address`.
        self.storages: set[int] = set()
        file = io.BytesIO()
        try:
            _Writer(file, self, known_value).dump(value)
        except Exception as error:
            raise UsageError(
                f"serving(...): a cache of type {type(value).__name__} cannot be copied: {error}; return the tensors "
                "of the cache in a list, a dict or a simple object"
            ) from error
        self._data = file.getvalue()

    @property
    def bytes(self) -> int:
        """The bytes of the tensors in the cache. Whole numbers that are no array, such as its length, do not count."""
        return sum(part.bytes for part in self.parts if isinstance(part, _Spec))

    def restore(self, device: torch.device) -> Any:
        """Return a new cache of the same kind on ``device``. Its numbers are zero, except for lengths and positions."""
        reader = _Reader(io.BytesIO(self._data), self.parts, device)
        return reader.load()


class _Writer(pickle.Pickler):
    def __init__(
        self, file: io.BytesIO, snapshot: Snapshot, known_value: Callable[[torch.Tensor], torch.Tensor | None]
    ) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._snapshot, self._known_value = snapshot, known_value
        self._places: dict[int, int] = {}
        #: Keeps the objects in `_places` alive, so that no other object gets their ids.
        self._kept: list[object] = []
        #: Parts of storages that were counted: two views of the same elements count once.
        self._counted: set[tuple[int, int, tuple[int, ...]]] = set()

    def persistent_id(self, obj: Any) -> int | None:
        """Return the place of a tensor or a shared object in the list of parts; None for all other objects."""
        is_tensor = isinstance(obj, torch.Tensor) and (type(obj) in PLAIN_TYPES or not is_wrapper(obj))
        if not (is_tensor or isinstance(obj, _SHARED)):
            return None
        place = self._places.get(id(obj))
        if place is None:
            self._kept.append(obj)
            parts = self._snapshot.parts
            place = self._places[id(obj)] = len(parts)
            parts.append(self._spec(obj) if is_tensor else obj)
        return place

    def _spec(self, tensor: torch.Tensor) -> _Spec:
        storage = storage_address(tensor)
        self._snapshot.storages.add(storage)
        part = storage, int(tensor.storage_offset()), tuple(tensor.shape)
        is_number = not tensor.ndim and not (tensor.is_floating_point() or tensor.is_complex())
        size = 0 if is_number or part in self._counted else tensor.nbytes
        self._counted.add(part)
        values = None if tensor.is_floating_point() or tensor.is_complex() else self._known_value(tensor)
        known = None if values is None else values.clone()
        return _Spec(tuple(tensor.shape), tensor.stride(), tensor.dtype, known, size)


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, parts: list[_Spec | Any], device: torch.device) -> None:
        super().__init__(file)
        self.parts, self._device = parts, device
        self._made: dict[int, torch.Tensor] = {}

    def persistent_load(self, pid: Any) -> Any:
        """Return the object at a place of the list of parts."""
        part = self.parts[pid]
        if not isinstance(part, _Spec):
            return part
        if pid not in self._made:
            self._made[pid] = _new_tensor(part, self._device)
        return self._made[pid]


def _new_tensor(spec: _Spec, device: torch.device) -> torch.Tensor:
    if spec.values is not None:
        return spec.values.clone()
    tensor = torch.empty_strided(spec.size, spec.stride, dtype=spec.dtype, device=device)
    return tensor if tensor.is_meta else tensor.zero_()
