"""Memory traffic of operators that do not touch every byte of their operands.

They read or write a part of a tensor, need its shape only, or overwrite it without reading it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.costs.operands import bytes_passed, bytes_without, total_bytes
from pytest_flopsbudget.counting.costs.registry import operator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_flopsbudget.counting.costs.registry import Call

_MASKS = (torch.bool, torch.uint8)


def _names(text: str) -> list[str]:
    return [f"aten.{name}" for name in text.split()]


def _written_only(call: Call) -> int:
    return total_bytes((call.output,))


#: Of the tensor that these are given they need the shape only.
operator(
    *_names(
        """
        ones_like zeros_like full_like rand_like randn_like randint_like new_zeros new_ones new_full
        _new_zeros_with_same_feature_meta
        """
    ),
    traffic=_written_only,
)

#: These overwrite a tensor without reading it: it counts once, as every operand does.
operator(
    *_names(
        """
        copy_ fill_ zero_ _foreach_copy_ _foreach_zero_ uniform_ normal_ log_normal_ exponential_ geometric_ cauchy_
        random_ bernoulli_ _fill_mem_eff_dropout_mask_
        """
    ),
    traffic=bytes_passed,
)


def _selected(source: str) -> Callable[[Call], int]:
    """Make the rule for operators that read, of the argument of this name, the elements that they return."""

    def traffic(call: Call) -> int:
        return bytes_without(call, source) + 2 * total_bytes((call.output,))

    return traffic


operator(*_names("gather index _unsafe_index index_select take"), traffic=_selected("self"))
operator("aten.embedding", traffic=_selected("weight"))


def _bags(call: Call) -> int:
    """Count a row of the weight for each index, and all else in full."""
    weight = call.tensor("weight")
    rows = call.tensor("indices").numel() * weight.size(1) * weight.itemsize
    return bytes_without(call, "weight") + rows + total_bytes((call.output,))


operator(*_names("_embedding_bag _embedding_bag_forward_only"), traffic=_bags)


def _overwritten_part(call: Call) -> int:
    """Count the elements that are written, twice where values are added to them: they are read first."""
    accumulates = "accumulate" in call.names and bool(call["accumulate"])
    return _written_part(call, 2 if accumulates else 1)


def _added_part(call: Call) -> int:
    return _written_part(call, 2)


def _written_part(call: Call, times: int) -> int:
    target = call.tensor("self")
    return bytes_without(call, "self") + _written_elements(call, target) * target.itemsize * times


operator(
    *_names("index_put_ _index_put_impl_ index_copy_ index_fill_ scatter_ put_"),
    traffic=_overwritten_part,
)
operator(*_names("index_add_ scatter_add_ scatter_reduce_"), traffic=_added_part)


def _written_elements(call: Call, target: torch.Tensor) -> int:
    """Count the elements of ``target`` that are written to; of a mask, all that it has."""
    if "indices" in call.names:
        indices = [index for index in call["indices"] if index is not None]
        positions: int = torch.broadcast_shapes(
            *(index.shape for index in indices if index.dtype not in _MASKS)
        ).numel()
        for index in indices:
            positions *= index.numel() if index.dtype in _MASKS else 1
        indexed = _indexed_elements(call["indices"], target)
        return positions * (target.numel() // indexed if indexed else 0)
    if "source" in call.names:
        return call.tensor("source").numel()
    index = call.tensor("index")
    if call.name == "aten.index_fill_":
        size: int = target.size(call["dim"])
        return index.numel() * (target.numel() // size if size else 0)
    return index.numel()


def _indexed_elements(indices: Sequence[torch.Tensor | None], target: torch.Tensor) -> int:
    """Multiply the sizes of the dimensions that are indexed."""
    product, dim = 1, 0
    for index in indices:
        dims = index.ndim if index is not None and index.dtype in _MASKS else 1
        if index is not None:
            product *= target.shape[dim : dim + dims].numel()
        dim += dims
    return product
