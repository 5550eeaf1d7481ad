"""Functions that sum the bytes of a call's operands; the rules for memory traffic use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.torch_private import indices_of, values_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flopsbudget.counting.costs.registry import Call


def bytes_touched(tensor: torch.Tensor) -> int:
    """Return the bytes of the tensor's elements. Elements that share their memory count once."""
    if tensor.is_nested:
        return tensor.numel() * tensor.element_size()
    if tensor.layout is not torch.strided:
        parts = _parts(tensor)
        return sum(part.nbytes for part in parts) if parts else tensor.numel() * tensor.element_size()
    if tensor.is_contiguous():
        return tensor.nbytes
    count = extent = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if size == 0:
            return 0
        if stride:
            count *= size
            extent += (size - 1) * stride
    return min(count, extent) * tensor.itemsize


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors that a sparse tensor consists of."""
    if tensor.layout is torch.sparse_coo:
        return [indices_of(tensor), values_of(tensor)]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []  # the layout of oneDNN hides its memory: `bytes_touched` counts elements, without padding


def total_bytes(values: Iterable[Any]) -> int:
    """Return the bytes of all tensors in ``values``, including the tensors in nested lists and tuples."""
    total = 0
    for value in values:
        if isinstance(value, torch.Tensor):
            total += bytes_touched(value)
        elif isinstance(value, (list, tuple)):
            total += total_bytes(value)
    return total


def bytes_without(call: Call, name: str) -> int:
    """Return the bytes of all arguments except the one called ``name``."""
    return total_bytes(call[other] for other in call.names if other != name)


def bytes_passed(call: Call) -> int:
    """Return the bytes of all arguments that the caller passed."""
    return total_bytes(call.args) + total_bytes(call.kwargs.values())
