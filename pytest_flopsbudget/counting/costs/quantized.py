"""Quantized layers, counted as their floating-point twins: their multiply-accumulates are the model's work too.

Source: as for products and convolutions. Weights are packed for the kernels; unpacking tells their shape.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.registry import formula

if TYPE_CHECKING:
    import torch

    from pytest_flopsbudget.counting.costs.registry import Call


@formula(
    "quantized.linear",
    "quantized.linear_relu",
    "quantized.linear_leaky_relu",
    "quantized.linear_tanh",
    "quantized.linear_dynamic",
    "quantized.linear_relu_dynamic",
    "quantized.linear_dynamic_fp16",
    "quantized.linear_relu_dynamic_fp16",
)
def _linear(call: Call) -> int:
    return 2 * call.first_output.numel() * call.tensor("X").shape[-1]


@formula("quantized.matmul")
def _matmul(call: Call) -> int:
    return 2 * call.first_output.numel() * call.tensor("qa").shape[-1]


def _slice(call: Call) -> int:
    """Elements of what one element of a convolution's input or output meets."""
    weight: torch.Tensor = call["packed_weight"].unpack()[0]
    return math.prod(weight.shape[1:])


@formula(
    *(f"quantized.conv{dims}d{variant}" for dims in (1, 2, 3) for variant in ("", "_relu", "_dynamic")),
    "quantized.conv2d_add",
    "quantized.conv2d_add_relu",
)
def _convolution(call: Call) -> int:
    """Weight (out, in/groups, *kernel)."""
    return 2 * call.first_output.numel() * _slice(call)


@formula(*(f"quantized.conv_transpose{dims}d{variant}" for dims in (1, 2, 3) for variant in ("", "_dynamic")))
def _transposed_convolution(call: Call) -> int:
    """Weight (in, out/groups, *kernel): every input position meets one slice."""
    return 2 * call.tensor("qx").numel() * _slice(call)
