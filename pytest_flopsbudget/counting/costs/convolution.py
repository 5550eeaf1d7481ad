"""Convolutions in any dimension, grouped, depthwise, dilated, transposed; forward and backward.

Source: the definition. Every output position of every output channel sums in channels/groups · kernel size products; a
transposed convolution scatters the same number from every *input* position (Dumoulin and Visin, "A guide to
convolution arithmetic for deep learning", 2016, §4). Zeros in the padding are counted, as published figures do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.registry import formula, per_mac

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
