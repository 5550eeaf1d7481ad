"""Pooling in one, two or three dimensions, counted from the number of inputs in each window.

The maximum of k values costs k - 1 comparisons, and its gradient one sum. The average of k values costs k - 1 additions
and one division. The gradient of an average costs k operations too, one for each input of the window, like the gradient
of `mean`. A window that overlaps the padding is counted in full, because a convolution also counts the zeros in its
padding.

Adaptive windows differ in size: output i of m averages the inputs from floor(i·n/m) up to ceil((i + 1)·n/m) of n. Along
one dimension, the m windows together hold n + m - gcd(n, m) inputs. Derivation: each input is in one window. If a bound
i·n/m is not an integer, the bound lies inside an input, which is then in one more window. There are m - gcd(n, m) such
bounds.

Source: the definitions.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.elementary import real_parts
from pytest_flopsbudget.counting.costs.registry import other_formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from pytest_flopsbudget.counting.costs.registry import Call

#: Number of spatial dimensions → names of the operators that take the maximum of each window.
_MAXIMA = {
    1: ("aten.quantized_max_pool1d",),
    2: (
        "aten.max_pool2d_with_indices",
        "aten.fractional_max_pool2d",
        "aten.mkldnn_max_pool2d",
        "aten.quantized_max_pool2d",
    ),
    3: (
        "aten.max_pool3d_with_indices",
        "aten.fractional_max_pool3d",
        "aten.mkldnn_max_pool3d",
        "aten.quantized_max_pool3d",
    ),
}
_AVERAGES = {2: ("aten.avg_pool2d",), 3: ("aten.avg_pool3d",)}
_AVERAGES_BACKWARD = {2: ("aten.avg_pool2d_backward",), 3: ("aten.avg_pool3d_backward",)}
_ADAPTIVE_MAXIMA = {2: ("aten.adaptive_max_pool2d",), 3: ("aten.adaptive_max_pool3d",)}
_ADAPTIVE_AVERAGES = {
    2: ("aten._adaptive_avg_pool2d", "aten.mkldnn_adaptive_avg_pool2d"),
    3: ("aten._adaptive_avg_pool3d",),
}
_ADAPTIVE_AVERAGES_BACKWARD = {
    2: ("aten._adaptive_avg_pool2d_backward", "aten.mkldnn_adaptive_avg_pool2d_backward"),
    3: ("aten._adaptive_avg_pool3d_backward", "aten.adaptive_avg_pool3d_backward"),
}


def _window(call: Call, dimensions: int) -> int:
    """Return the number of inputs in one window. If the kernel size is one number, it applies to all dimensions."""
    kernel: Sequence[int] = call["kernel_size"]
    return math.prod(kernel) if len(kernel) == dimensions else kernel[0] ** dimensions


def _adaptive_windows(inputs: torch.Tensor, outputs: torch.Tensor, dimensions: int) -> int:
    """Return the number of inputs in all windows. An input counts once for each window that holds it."""
    sizes = zip(inputs.shape[-dimensions:], outputs.shape[-dimensions:], strict=True)
    return outputs.shape[:-dimensions].numel() * math.prod(n + m - math.gcd(n, m) if m else 0 for n, m in sizes)


def _max_pool(dimensions: int, call: Call) -> int:
    output = call.first_output
    return real_parts(output) * output.numel() * (_window(call, dimensions) - 1)


# PyTorch 2.6 has an operator for two dimensions only.
@other_formula("prims._low_memory_max_pool_with_offsets", "prims._low_memory_max_pool2d_with_offsets")
def _max_pool_primitive(call: Call) -> int:
    """Count the comparisons of a maximum pool. ``kernel_size`` has one number for each dimension."""
    return _max_pool(len(call["kernel_size"]), call)


def _adaptive_max_pool(dimensions: int, call: Call) -> int:
    inputs, output = call.tensor("self"), call.first_output
    return real_parts(inputs) * (_adaptive_windows(inputs, output, dimensions) - output.numel())


def _average_pool(dimensions: int, call: Call) -> int:
    output = call.first_output
    return real_parts(output) * output.numel() * _window(call, dimensions)


def _average_pool_backward(dimensions: int, call: Call) -> int:
    """Count k operations for each window of k inputs, as in the forward pass."""
    grad = call.tensor("grad_output")
    return real_parts(grad) * grad.numel() * _window(call, dimensions)


def _adaptive_average_pool(dimensions: int, call: Call) -> int:
    inputs = call.tensor("self")
    return real_parts(inputs) * _adaptive_windows(inputs, call.first_output, dimensions)


def _adaptive_average_pool_backward(dimensions: int, call: Call) -> int:
    """Count one operation for each input of each window."""
    inputs = call.tensor("self")
    return real_parts(inputs) * _adaptive_windows(inputs, call.tensor("grad_output"), dimensions)


for _operators_by_dimensions, _rule in (
    (_MAXIMA, _max_pool),
    (_ADAPTIVE_MAXIMA, _adaptive_max_pool),
    (_AVERAGES, _average_pool),
    (_AVERAGES_BACKWARD, _average_pool_backward),
    (_ADAPTIVE_AVERAGES, _adaptive_average_pool),
    (_ADAPTIVE_AVERAGES_BACKWARD, _adaptive_average_pool_backward),
):
    for _spatial, _operators in _operators_by_dimensions.items():
        other_formula(*_operators)(partial(_rule, _spatial))


@other_formula(
    "aten.max_pool2d_backward",
    "aten.max_pool2d_with_indices_backward",
    "aten.max_pool3d_with_indices_backward",
    "aten.fractional_max_pool2d_backward",
    "aten.fractional_max_pool3d_backward",
    "aten.adaptive_max_pool2d_backward",
    "aten.adaptive_max_pool3d_backward",
    "aten.mkldnn_max_pool2d_backward",
    "aten.mkldnn_max_pool3d_backward",
)
def _max_pool_backward(call: Call) -> int:
    """Count one sum for each value of the output's gradient.

    Each value is added to the gradient of the largest input of its window.
    """
    grad = call.tensor("grad_output")
    return real_parts(grad) * grad.numel()


@other_formula("aten.max_unpool2d", "aten.max_unpool3d")
def _unpool(_call: Call) -> int:
    """Return 0, because the operator only copies values."""
    return 0
