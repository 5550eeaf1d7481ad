"""Raise PyTorch's errors for operands of different dtypes, because the meta kernels do not check dtypes.

For example, a layer whose weights are float32 cannot process a float64 input. On the meta device such a call succeeds.
Without this check, a model that cannot run would be counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_flopsbudget.counting.operators.info import OperatorInfo


def _with_ones(positions: slice) -> Callable[[Sequence[Any]], list[Any]]:
    """Return a function that replaces every size among the arguments at ``positions`` by 1."""

    def replace(args: Sequence[Any]) -> list[Any]:
        small = list(args)
        small[positions] = [[1] * len(size) if isinstance(size, (list, tuple)) else 1 for size in args[positions]]
        return small

    return replace


def _small_convolution(args: Sequence[Any]) -> list[Any]:
    *operands, _, _, _, transposed, _, _ = args
    ones = [1] * (args[0].ndim - 2)
    zeros = [0] * len(ones)
    return [*operands, ones, zeros, ones, transposed, zeros, 1]


#: Operators whose operands must have one dtype → the function that fits their other arguments to operands of one
#: element.
_CHECKED: dict[str, Callable[[Sequence[Any]], Sequence[Any]]] = {
    **dict.fromkeys(
        (f"aten.{name}" for name in ("mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot")), list
    ),
    "aten._cdist_forward": list,
    "aten.native_batch_norm": list,
    "aten.convolution": _small_convolution,
    "aten.native_layer_norm": _with_ones(slice(1, 2)),
    "aten.native_group_norm": _with_ones(slice(3, 7)),
}


def check_dtypes(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise PyTorch's error if PyTorch refuses operands of these dtypes.

    If the operands differ in dtype, this function calls the operator on the CPU, with operands of one element each.

    Raises:
        RuntimeError: PyTorch's error for operands of these dtypes.
    """
    shrink = _CHECKED.get(info.name)
    if shrink is None:
        return
    tensors = list(tensors_in(args))
    if len({tensor.dtype for tensor in tensors}) > 1 and all(
        type(tensor) in PLAIN_TYPES and tensor.layout is torch.strided for tensor in tensors
    ):
        info.operator(*map(_one_element, shrink(args)), **kwargs)


def _one_element(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return torch.zeros((1,) * value.ndim, dtype=value.dtype, device="cpu")
