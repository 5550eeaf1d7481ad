"""Convolutions in any dimension, grouped, depthwise, dilated, transposed; forward and backward.

Source: the definition. Every output position of every output channel sums in channels/groups · kernel size products; a
transposed convolution scatters the same number from every *input* position (Dumoulin and Visin, "A guide to
convolution arithmetic for deep learning", 2016, §4). Zeros in the padding are counted, as published figures do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.registry import formula, other_formula, per_mac

if TYPE_CHECKING:
    import torch

    from pytest_flopsbudget.counting.costs.registry import Call


def _products(positions: torch.Tensor, weight: torch.Tensor) -> int:
    """Each element of ``positions`` meets one slice of the weight (out, in/groups, *kernel), or of its transpose."""
    return per_mac(weight) * positions.numel() * math.prod(weight.shape[1:])


@formula(
    "aten.convolution",
    "aten._convolution",
    "aten.convolution_overrideable",
    "aten.cudnn_convolution",
    "aten.cudnn_convolution_relu",
    "aten.cudnn_convolution_add_relu",
    "aten.miopen_convolution",
    "aten.miopen_convolution_relu",
    "aten.miopen_convolution_add_relu",
    "aten.miopen_depthwise_convolution",
    "aten.mkldnn_convolution",
    "aten._mps_convolution",
    "aten._slow_conv2d_forward",
    "aten.slow_conv3d_forward",
    "aten.slow_conv_dilated2d",
    "aten.slow_conv_dilated3d",
    "aten._nnpack_spatial_convolution",
    "aten._conv_depthwise2d",
    "aten.conv_depthwise3d",
)
def _convolution(call: Call) -> int:
    transposed = "transposed" in call.names and call["transposed"]
    positions = call.tensor("input", "self") if transposed else call.first_output
    return _products(positions, call.tensor("weight"))


@formula(
    "aten.cudnn_convolution_transpose",
    "aten.miopen_convolution_transpose",
    "aten._mps_convolution_transpose",
    "aten.slow_conv_transpose2d",
    "aten.slow_conv_transpose3d",
)
def _transposed_convolution(call: Call) -> int:
    return _products(call.tensor("self", "input"), call.tensor("weight"))


@formula("aten.conv_tbc")
def _conv_tbc(call: Call) -> int:
    """Time-major: weight (kernel, in, out)."""
    kernel, channels, _ = call.tensor("weight").shape
    return per_mac(call.first_output) * call.first_output.numel() * kernel * channels


@formula("aten.convolution_backward", "aten.convolution_backward_overrideable")
def _convolution_backward(call: Call) -> int:
    """The gradients of input and weight are convolutions of the forward's cost; the bias's is a sum, no product."""
    positions = call.tensor("input") if call["transposed"] else call.tensor("grad_output")
    return sum(map(bool, call["output_mask"][:2])) * _products(positions, call.tensor("weight"))


@formula("aten.mps_convolution_backward", "aten._slow_conv2d_backward")
def _plain_convolution_backward(call: Call) -> int:
    return sum(map(bool, call["output_mask"][:2])) * _products(call.tensor("grad_output"), call.tensor("weight"))


@formula("aten.mps_convolution_transpose_backward")
def _transposed_convolution_backward(call: Call) -> int:
    return sum(map(bool, call["output_mask"])) * _products(call.tensor("self"), call.tensor("weight"))


_FORWARD = """
convolution _convolution convolution_overrideable cudnn_convolution cudnn_convolution_relu cudnn_convolution_add_relu
miopen_convolution miopen_convolution_relu miopen_convolution_add_relu miopen_depthwise_convolution mkldnn_convolution
_mps_convolution _slow_conv2d_forward slow_conv3d_forward slow_conv_dilated2d slow_conv_dilated3d
_nnpack_spatial_convolution _conv_depthwise2d conv_depthwise3d cudnn_convolution_transpose miopen_convolution_transpose
_mps_convolution_transpose slow_conv_transpose2d slow_conv_transpose3d conv_tbc
"""


@other_formula(*(f"aten.{name}" for name in _FORWARD.split()))
def _bias(call: Call) -> int:
    """Count one sum per output element for the bias, and the fused operations: alpha · z, ReLU."""
    operations = int("bias" in call.names and call["bias"] is not None)
    name = call.name.removeprefix("aten.")
    operations += name.endswith("_relu")
    if name.endswith("_add_relu"):
        operations += 1 if call["alpha"] in (None, 1) else 2
    return (2 if call.first_output.is_complex() else 1) * operations * call.first_output.numel()


@other_formula("aten.convolution_backward", "aten.convolution_backward_overrideable")
def _bias_backward(call: Call) -> int:
    """The bias's gradient is the sum of the output's over the batch and all positions: n - 1 for each channel."""
    gradient = call.tensor("grad_output")
    parts = 2 if gradient.is_complex() else 1
    asked = len(call["output_mask"]) > 2 and call["output_mask"][2]  # noqa: PLR2004 -- the bias comes third
    channels = gradient.shape[1] if gradient.ndim > 1 else 1
    return parts * max(gradient.numel() - channels, 0) if asked else 0
