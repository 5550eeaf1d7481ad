"""One FLOP per elementary operation on floating-point numbers: the base of all rules for `other_flops`.

An add, a multiplication, a comparison, a maximum, a square root, an exponential, an error function: 1 each, as in XLA's
`HloCostAnalysis` (openxla/xla, `xla/service/hlo_cost_analysis.cc`). Integers and booleans are no floating-point
numbers: an operator that reads and writes nothing else is free. Those in a quantized tensor stand for floating-point
numbers, and count as such.
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
    """Return whether the tensor holds real or complex floating-point numbers, quantized ones included."""
    return tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized


def real_parts(tensor: torch.Tensor) -> int:
    """Real floating-point numbers in one element: a complex one has two parts, integers and booleans have none."""
    return 2 if tensor.is_complex() else int(is_float(tensor))


def computes_on_floats(call: Call) -> bool:
    """Return whether the operator reads or returns a tensor of floating-point numbers."""
    return any(map(is_float, itertools.chain(tensors_in(call.output), tensors_in(call.args))))


def is_complex(call: Call) -> bool:
    """Return whether the operator reads or returns a tensor of complex numbers."""
    return any(tensor.is_complex() for tensor in itertools.chain(tensors_in(call.output), tensors_in(call.args)))


def elements(tensors: Iterable[torch.Tensor]) -> int:
    """Elements of all the tensors that hold floating-point numbers."""
    return sum(tensor.numel() for tensor in tensors if is_float(tensor))


def elementary(call: Call) -> int:
    """One operation for each element of the output, of which a complex number has two parts."""
    if not computes_on_floats(call):
        return 0
    return (2 if is_complex(call) else 1) * call.first_output.numel()


def reduction(call: Call) -> int:
    """Reduces n values to one by n - 1 operations, for each element of the output."""
    inputs = next(tensors_in(call.args))
    return real_parts(inputs) * max(inputs.numel() - call.first_output.numel(), 0)


def stored_elements(tensor: torch.Tensor) -> int:
    """Elements that the tensor holds in memory: all of a dense one, those stored of a sparse one."""
    if tensor.layout is torch.strided or tensor.is_mkldnn or tensor.is_nested:
        return tensor.numel()
    values = values_of(tensor) if tensor.layout is torch.sparse_coo else tensor.values()
    return values.numel()
