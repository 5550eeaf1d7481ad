"""Layers whose weight, bias and other parameters are packed into one object, for oneDNN or XNNPACK.

Source: the definitions in `products.py` and `convolution.py`. Fused activation functions cost as much as in
`onednn.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.costs.onednn import activation
from pytest_flopsbudget.counting.costs.registry import formula, other_formula

if TYPE_CHECKING:
    import torch

    from pytest_flopsbudget.counting.costs.registry import Call

_PREPACKED = "mkldnn_prepacked.conv2d_run"


def _context(call: Call) -> tuple[Any, ...]:
    """Return the packed values: the weight, the bias, and then the other parameters of the layer."""
    state: Any = call["W_prepack"].__getstate__()
    while len(state) and isinstance(state[0], tuple):
        state = state[0]  # newer versions of PyTorch wrap the values in a tuple with the name of the class
    return tuple(state)


@formula(_PREPACKED, "prepacked.conv2d_clamp_run")
def _prepacked_convolution(call: Call) -> int:
    output = call.first_output
    weight: torch.Tensor = _context(call)[0]
    return 2 * output.numel() * (weight.numel() // output.shape[1])


@formula("prepacked.conv2d_transpose_clamp_run")
def _prepacked_transposed_convolution(call: Call) -> int:
    """Count the FLOPs of a transposed convolution with the weight (in, out/groups, *kernel)."""
    weight: torch.Tensor = _context(call)[0]
    return 2 * call.tensor("X").numel() * math.prod(weight.shape[1:])


@formula("prepacked.linear_clamp_run")
def _prepacked_linear(call: Call) -> int:
    return 2 * call.first_output.numel() * call.tensor("X").shape[-1]


@other_formula(_PREPACKED)
def _around_prepacked(call: Call) -> int:
    """Count the operations of the bias and of the activation, whose name is the last packed value.

    PyTorch 2.13 does not pack the name, so the activation costs 0 in this version.
    """
    _, bias, *_, attribute = _context(call)
    return ((bias is not None) + activation(attribute)) * call.first_output.numel()


@other_formula("prepacked.conv2d_clamp_run", "prepacked.conv2d_transpose_clamp_run", "prepacked.linear_clamp_run")
def _around_clamped(call: Call) -> int:
    """Count the addition of the bias, and one comparison for each bound of the output.

    The bounds are the last two packed values.
    """
    _, bias, *_, minimum, greatest = _context(call)
    return sum(part is not None for part in (bias, minimum, greatest)) * call.first_output.numel()
