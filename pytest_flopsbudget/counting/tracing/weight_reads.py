"""The least number of bytes of a model's weights that one run has to read, whatever kernels run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.distributed.dtensor import local_tensor
from pytest_flopsbudget.counting.tensors.metadata import (
    PLAIN_TYPES,
    UNINITIALIZED,
    is_wrapper,
    tensors_in,
    wrapped_tensors,
)
from pytest_flopsbudget.counting.tensors.storages import storage_address

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from pytest_flopsbudget.counting.operators.info import OperatorInfo

#: Operators that read only some rows of one operand → the number of rows that one call reads. Indices of an embedding
#: may all be equal, so at least one row is read.
_ROWS: dict[str, Callable[[tuple[Any, ...]], int]] = {
    "aten.embedding": lambda args: min(1, args[1].numel()),
    "aten.index_select": lambda args: args[2].numel(),
    "aten.index": lambda args: _first_index(args).numel(),
    "aten._unsafe_index": lambda args: _first_index(args).numel(),
    "aten.gather": lambda args: args[2].shape[0],
    # Each row of the first operand is multiplied by one of the matrices in the second operand.
    "aten._grouped_mm": lambda args: args[0].shape[0],
    "transformers.grouped_mm_fallback": lambda args: args[0].shape[0],
}


class WeightReads:
    """Records which bytes of the parameters and buffers of ``modules`` the operators of a run read.

    A weight counts once, even if several operators read it. Of a weight whose rows are chosen by data (embeddings,
    experts), the rows count that one of ``tokens`` tokens chooses, because all tokens may choose the same rows.
    """

    def __init__(self, modules: Iterable[torch.nn.Module], tokens: int) -> None:
        self._tokens = tokens
        #: Key of the storage of each weight → its bytes. The modules keep the storages alive during the run.
        self._weights = {
            storage_address(part): part.untyped_storage().nbytes()
            for module in modules
            for tensor in (*module._parameters.values(), *module._buffers.values())
            if tensor is not None and type(tensor) not in UNINITIALIZED
            for part in _plain_parts(local_tensor(tensor))
            if part.layout is torch.strided
        }
        #: (key of the storage, place in the storage) → the bytes that were read there.
        self._read: dict[tuple[int, int], int] = {}

    def record(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Record what one operator reads."""
        rows = _ROWS.get(info.name)
        for tensor in (*tensors_in(args), *tensors_in(kwargs.values())):
            storage = storage_address(tensor)
            if storage in self._weights:
                size = tensor.nbytes
                if rows is not None and tensor.ndim:
                    chosen = min(tensor.shape[0], -(-rows(args) // self._tokens))
                    size = size // max(1, tensor.shape[0]) * chosen
                place = storage, int(tensor.storage_offset())
                self._read[place] = max(size, self._read.get(place, 0))

    def read(self, without: Collection[int] = ()) -> int:
        """Return the bytes that were read at least once.

        Args:
            without: the keys of storages that do not count, because they belong to a cache in the model's buffers.
        """
        read: dict[int, int] = {}
        for (storage, _), size in self._read.items():
            if storage not in without:
                read[storage] = min(self._weights[storage], read.get(storage, 0) + size)
        return sum(read.values())

    def all(self, without: Collection[int] = ()) -> int:
        """Return the bytes of all parameters and buffers. ``without`` is that of `read`."""
        return sum(size for storage, size in self._weights.items() if storage not in without)


def _first_index(args: tuple[Any, ...]) -> torch.Tensor:
    indices: list[torch.Tensor | None] = args[1]
    return next(index for index in indices if index is not None)


def _plain_parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the tensors with data that a weight consists of: of a wrapper tensor, those inside of it."""
    if type(tensor) in PLAIN_TYPES or not is_wrapper(tensor):
        yield tensor
        return
    for part in wrapped_tensors(tensor).values():
        yield from _plain_parts(part)
