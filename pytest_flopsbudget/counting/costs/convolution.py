"""Convolutions in any dimension: plain, grouped, depthwise, dilated and transposed; forward and backward.

In a convolution, each output position of each output channel is a sum of (in channels / groups) · kernel size products.
In a transposed convolution, each *input* position of each input channel is multiplied with (out channels / groups) ·
kernel size weights. Products with zeros of the padding are counted, as in published figures.

Sources: the definition; for transposed convolutions, Dumoulin and Visin, "A guide to convolution arithmetic for deep
learning", 2016, §4.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.registry import formula, other_formula, per_mac

if TYPE_CHECKING:
    import torch

    from pytest_flopsbudget.counting.costs.registry import Call


_FORWARD = """
convolution _convolution convolution_overrideable cudnn_convolution cudnn_convolution_relu cudnn_convolution_add_relu
miopen_convolution miopen_convolution_relu miopen_convolution_add_relu miopen_depthwise_convolution mkldnn_convolution
_mps_convolution _slow_conv2d_forward slow_conv3d_forward slow_conv_dilated2d slow_conv_dilated3d
_nnpack_spatial_convolution _conv_depthwise2d conv_depthwise3d cudnn_convolution_transpose miopen_convolution_transpose
_mps_convolution_transpose slow_conv_transpose2d slow_conv_transpose3d
"""
_FORWARD_NAMES = [f"aten.{name}" for name in _FORWARD.split()]


def _products(positions: torch.Tensor, weight: torch.Tensor) -> int:
    """Return the FLOPs of multiplying each element of ``positions`` with ``weight[0]``, and of adding up the products.

    The weight is (out, in/groups, *kernel), or (in, out/groups, *kernel) for a transposed convolution.
    """
    return per_mac(weight) * positions.numel() * math.prod(weight.shape[1:])


def _is_transposed(call: Call) -> bool:
    return "transpose" in call.name or ("transposed" in call.names and bool(call["transposed"]))


@formula(*_FORWARD_NAMES)
def _convolution(call: Call) -> int:
    positions = call.tensor("input", "self") if _is_transposed(call) else call.first_output
    return _products(positions, call.tensor("weight"))


@formula("aten.conv_tbc")
def _conv_tbc(call: Call) -> int:
    """Count the FLOPs of a convolution in time-major layout, whose weight is (kernel, in, out)."""
    kernel, channels, _ = call.tensor("weight").shape
    return per_mac(call.first_output) * call.first_output.numel() * kernel * channels


@formula(
    "aten.convolution_backward",
    "aten.convolution_backward_overrideable",
    "aten.mps_convolution_backward",
    "aten._slow_conv2d_backward",
    "aten.mps_convolution_transpose_backward",
)
def _convolution_backward(call: Call) -> int:
    """Count the FLOPs of the requested gradients of input and weight. Each gradient costs as much as the forward pass.

    The gradient of the bias is a sum, which `_bias_backward` counts.
    """
    positions = call.tensor("input", "self") if _is_transposed(call) else call.tensor("grad_output")
    return sum(_requested(call)[:2]) * _products(positions, call.tensor("weight"))


def _requested(call: Call) -> list[bool]:
    """Return for input, weight and bias whether the gradient is requested.

    The list may end after the weight, if the kernel computes no gradient of the bias.
    """
    if "output_mask" in call.names:
        return [bool(requested) for requested in call["output_mask"]]
    return [call[name] is not None for name in ("grad_input", "grad_weight", "grad_bias")]


@other_formula(*_FORWARD_NAMES, "aten.conv_tbc")
def _bias(call: Call) -> int:
    """Count the addition of the bias, if there is one.

    A fused operator may also apply a ReLU, or add a second tensor times ``alpha``. These operations count too.
    """
    operations = int("bias" in call.names and call["bias"] is not None)
    name = call.name.removeprefix("aten.")
    operations += name.endswith("_relu")
    if name.endswith("_add_relu"):  # the sum, and the product alpha · z
        operations += 1 if call["alpha"] in (None, 1) else 2
    return (2 if call.first_output.is_complex() else 1) * operations * call.first_output.numel()


@other_formula(
    "aten.convolution_backward",
    "aten.convolution_backward_overrideable",
    "aten._slow_conv2d_backward",
    "aten.mps_convolution_backward",
)
def _bias_backward(call: Call) -> int:
    """Count n - 1 sums per channel of n values, if the gradient of the bias is requested."""
    gradient = call.tensor("grad_output")
    parts = 2 if gradient.is_complex() else 1
    channels = gradient.shape[1] if gradient.ndim > 1 else 1
    return parts * max(gradient.numel() - channels, 0) if any(_requested(call)[2:]) else 0
