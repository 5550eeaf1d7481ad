"""Operators of oneDNN and MKL for CPUs: a product, fused with an activation or with a second operand.

Source: the definitions in `products.py` and `convolution.py`. An operation that is fused into the product costs as much
as the separate operator in `elementwise.py`.

oneDNN reorders weights for its kernels: the shape of a weight changes, but its number of elements does not. The
formulas therefore use numbers of elements:

- A convolution needs elements(weight) / output channels products for each output element.
- A transposed convolution multiplies each input element with elements(weight) / input channels weights.

Converting integers to floating-point numbers inside an operator is not counted. `quantized.py` follows the same rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.costs.elementwise import operations, scaling
from pytest_flopsbudget.counting.costs.registry import formula, other_formula

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call

_LINEAR = (
    "mkldnn._linear_pointwise",
    "mkl._mkl_linear",
    "onednn.qlinear_pointwise",
    "onednn.linear_dynamic_fp16",
    "onednn.linear_relu_dynamic_fp16",
)
_CONVOLUTIONS = (
    "mkldnn._convolution_pointwise",
    "onednn.qconv_pointwise",
    "onednn.qconv1d_pointwise",
    "onednn.qconv2d_pointwise",
    "onednn.qconv3d_pointwise",
)
_TRANSPOSED = "mkldnn._convolution_transpose_pointwise"


@formula(*_LINEAR)
def _linear(call: Call) -> int:
    """Count the FLOPs of a linear layer with the input (…, in) and the output (…, out)."""
    return 2 * call.first_output.numel() * call.tensor("X", "qx", "x").shape[-1]


@formula(*_CONVOLUTIONS)
def _convolution(call: Call) -> int:
    """Count the FLOPs of a convolution with the output (batch, channels, …)."""
    output = call.first_output
    return 2 * output.numel() * (call.tensor("W", "qw").numel() // output.shape[1])


@formula(_TRANSPOSED)
def _transposed_convolution(call: Call) -> int:
    """Count the FLOPs of a transposed convolution with the input (batch, channels, …)."""
    inputs = call.tensor("X")
    return 2 * inputs.numel() * (call.tensor("W").numel() // inputs.shape[1])


#: oneDNN's name of an activation → ATen's name, if the two differ.
_NAMES = {"swish": "silu"}
_NOTHING = (None, "", "none")


def activation(name: str | None, algorithm: str | None = None) -> int:
    """Return the operations per element of the activation that oneDNN calls ``name``.

    The argument ``algorithm`` selects the formula of GELU.
    """
    if name in _NOTHING:
        return 0
    if name == "gelu":
        return 9 if algorithm == "tanh" else 5
    return operations(_NAMES.get(str(name), str(name)))


def _second_operand(name: str | None, factor: Any) -> int:
    """Return the operations per element that combine a result with a second tensor.

    The second tensor is multiplied by ``factor``. ``name`` is oneDNN's name for the combining operation.
    """
    if name in _NOTHING:
        return 0
    return 1 + (0 if factor is None else scaling(factor, complex_numbers=False))


def _argument(call: Call, *names: str) -> Any:
    return next((call[name] for name in names if name in call.names), None)


@other_formula(*_LINEAR, *_CONVOLUTIONS, _TRANSPOSED)
def _around(call: Call) -> int:
    """Count the operations of the bias, the second operand and the activation."""
    attribute = _argument(call, "attr", "post_op_name")
    joined = _argument(call, "binary_attr", "binary_post_op")
    if "other" in call.names and joined is None:  # a linear layer, whose ``attr`` names the join of its two operands
        attribute, joined = None, attribute
    else:
        attribute = attribute or _argument(call, "unary_attr", "unary_post_op")
    algorithm = _argument(call, "algorithm", "unary_algorithm", "post_op_algorithm", "unary_post_op_algorithm")
    work = int(_argument(call, "B", "bias") is not None) + ("_relu_" in call.name)
    work += _second_operand(joined, _argument(call, "alpha", "binary_alpha")) + activation(attribute, algorithm)
    return work * call.first_output.numel()
