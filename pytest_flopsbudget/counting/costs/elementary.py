"""One FLOP per elementary operation on floating-point numbers: all formulas for `other_flops` build on this rule.

Each of these is one operation: an addition, a multiplication, a comparison, a maximum, a square root, an exponential,
an error function. XLA's `HloCostAnalysis` uses the same rule (openxla/xla, `xla/service/hlo_cost_analysis.cc`). An
operator that reads and writes only integers and booleans is free. The integers in a quantized tensor represent
floating-point numbers, so operations on them are counted.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.tensors.metadata import tensors_in
from pytest_flopsbudget.counting.torch_private import values_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flopsbudget.counting.costs.registry import Call


def is_float(tensor: torch.Tensor) -> bool:
    """Return whether the tensor holds real, complex or quantized floating-point numbers."""
    return tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized


def real_parts(tensor: torch.Tensor) -> int:
    """Return how many real numbers one element holds: 2 if complex, 1 if real, 0 if it is an integer or a boolean."""
    return 2 if tensor.is_complex() else int(is_float(tensor))


def real_numbers(tensor: torch.Tensor) -> int:
    """Return how many real floating-point numbers the tensor holds. A complex number counts as two."""
    return real_parts(tensor) * tensor.numel()


def computes_on_floats(call: Call) -> bool:
    """Return whether the operator reads or returns a tensor of floating-point numbers."""
    return any(map(is_float, itertools.chain(tensors_in(call.output), tensors_in(call.args))))


def is_complex(call: Call) -> bool:
    """Return whether the operator reads or returns a tensor of complex numbers."""
    return any(tensor.is_complex() for tensor in itertools.chain(tensors_in(call.output), tensors_in(call.args)))


def elements(tensors: Iterable[torch.Tensor]) -> int:
    """Return the number of elements in all tensors of floating-point numbers.

    A complex number counts as one element.
    """
    return sum(tensor.numel() for tensor in tensors if is_float(tensor))


def elementary(call: Call) -> int:
    """Count one operation for each output element, or two if the operator reads or returns complex numbers.

    If the operator reads and returns only integers and booleans, return 0.
    """
    if not computes_on_floats(call):
        return 0
    return (2 if is_complex(call) else 1) * call.first_output.numel()


def reduction(call: Call) -> int:
    """Count n - 1 operations for each output element that is reduced from n values."""
    inputs = next(tensors_in(call.args))
    return real_parts(inputs) * max(inputs.numel() - call.first_output.numel(), 0)


def stored_elements(tensor: torch.Tensor) -> int:
    """Return the number of elements that the tensor stores: all of them, or fewer if the tensor is sparse."""
    if tensor.layout is torch.strided or tensor.is_mkldnn or tensor.is_nested:
        return tensor.numel()
    values = values_of(tensor) if tensor.layout is torch.sparse_coo else tensor.values()
    return values.numel()
