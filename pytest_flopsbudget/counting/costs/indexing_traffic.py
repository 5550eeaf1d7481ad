"""Memory traffic of operators that do not read every operand in full.

Such an operator reads or writes only a part of a tensor, or reads only its shape, or overwrites it without reading it.
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


# These operators read only the shape of their operand, so only the output counts.
operator(
    *_names(
        """
        ones_like zeros_like full_like rand_like randn_like randint_like new_zeros new_ones new_full
        _new_zeros_with_same_feature_meta
        """
    ),
    traffic=_written_only,
)

# These operators overwrite a tensor without reading it, so its bytes count once.
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
    """Make the traffic formula of operators that read only some elements of the argument named ``source``.

    Such an operator returns the elements that it reads.
    """

    def traffic(call: Call) -> int:
        return bytes_without(call, source) + 2 * total_bytes((call.output,))

    return traffic


operator(*_names("gather index _unsafe_index index_select take"), traffic=_selected("self"))
operator("aten.embedding", traffic=_selected("weight"))


def _bags(call: Call) -> int:
    """Count the bytes of all arguments and the output. One row of the weight counts for each index."""
    weight = call.tensor("weight")
    rows = call.tensor("indices").numel() * weight.size(1) * weight.itemsize
    return bytes_without(call, "weight") + rows + total_bytes((call.output,))


operator(*_names("_embedding_bag _embedding_bag_forward_only"), traffic=_bags)


def _overwritten_part(call: Call) -> int:
    """Count the bytes of the written elements, and of all arguments other than ``self``.

    With ``accumulate``, the written elements count twice, because they are also read.
    """
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
    """Return the number of elements of ``target`` that the call writes.

    An element counts once for each time that an index selects it.
    """
    if "indices" in call.names:
        return indexed_elements(target, call["indices"])
    if "source" in call.names:
        return call.tensor("source").numel()
    index = call.tensor("index")
    if call.name == "aten.index_fill_":
        size: int = target.size(call["dim"])
        return index.numel() * (target.numel() // size if size else 0)
    return index.numel()


def indexed_elements(target: torch.Tensor, indices: Sequence[torch.Tensor | None]) -> int:
    """Return how many elements of ``target`` the indices of an ``index_put`` select.

    An element counts once for each time that it is selected. An index is None (a whole dimension), a tensor of
    positions in one dimension, or a mask over one or more dimensions.

    The true elements of a mask depend on data. If the other indices determine how many are true, the result is exact.
    Otherwise every element of the mask counts as true, which is an upper bound.
    """
    shapes: list[torch.Size] = []
    mask_elements = covered = 1
    dim = 0
    for index in indices:
        dims = 1
        if index is not None and index.dtype in _MASKS:
            dims = index.ndim
            mask_elements = max(mask_elements, index.numel())
        elif index is not None:
            shapes.append(index.shape)
        if index is not None:
            covered *= target.shape[dim : dim + dims].numel()
        dim += dims
    if not covered:
        return 0
    # PyTorch replaces a mask with T true elements by tensors of positions (T,), and broadcasts all positions.
    positions: torch.Size = torch.broadcast_shapes(*shapes)
    count = positions.numel() * (mask_elements if positions[-1:].numel() == 1 else 1)
    return count * (target.numel() // covered)
