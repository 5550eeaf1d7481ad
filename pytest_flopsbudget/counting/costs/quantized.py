"""Quantized layers, counted as their floating-point twins: their multiply-accumulates are the model's work too.

Source: as for products and convolutions. Weights are packed for the kernels; unpacking tells their shape.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.registry import formula, other_formula

if TYPE_CHECKING:
    import torch

    from pytest_flopsbudget.counting.costs.registry import Call


_LINEAR = """
linear linear_relu linear_leaky_relu linear_tanh linear_dynamic linear_relu_dynamic linear_dynamic_fp16
linear_relu_dynamic_fp16
"""


@formula(*(f"quantized.{name}" for name in _LINEAR.split()))
def _linear(call: Call) -> int:
    return 2 * call.first_output.numel() * call.tensor("X").shape[-1]


@formula("quantized.matmul")
def _matmul(call: Call) -> int:
    return 2 * call.first_output.numel() * call.tensor("qa").shape[-1]


def _slice(call: Call) -> int:
    """Elements of what one element of a convolution's input or output meets."""
    weight: torch.Tensor = call["packed_weight"].unpack()[0]
    return math.prod(weight.shape[1:])


_CONVOLUTIONS = (
    *(f"quantized.conv{dims}d{variant}" for dims in (1, 2, 3) for variant in ("", "_relu", "_dynamic")),
    "quantized.conv2d_add",
    "quantized.conv2d_add_relu",
)
_TRANSPOSED = tuple(f"quantized.conv_transpose{dims}d{variant}" for dims in (1, 2, 3) for variant in ("", "_dynamic"))


@formula(*_CONVOLUTIONS)
def _convolution(call: Call) -> int:
    """Weight (out, in/groups, *kernel)."""
    return 2 * call.first_output.numel() * _slice(call)


@formula(*_TRANSPOSED)
def _transposed_convolution(call: Call) -> int:
    """Weight (in, out/groups, *kernel): every input position meets one slice."""
    return 2 * call.tensor("qx").numel() * _slice(call)


@other_formula(*(f"quantized.{name}" for name in _LINEAR.split()), *_CONVOLUTIONS, *_TRANSPOSED)
def _around(call: Call) -> int:
    """The bias, and what is fused: a sum, ReLU, tanh; leaky ReLU is a comparison and a product."""
    name = call.name.removeprefix("quantized.")
    packed = call["W_prepack"] if name.startswith("linear") else call["packed_weight"]
    operations = int(packed.unpack()[1] is not None) + ("_add" in name) + ("tanh" in name)
    operations += 2 if "leaky_relu" in name else int("relu" in name)
    return operations * call.first_output.numel()
