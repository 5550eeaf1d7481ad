"""Softmax and log-softmax: 5 operations per element in the forward pass, 4 in the backward pass.

Softmax: maximum, subtract, exponential, sum, divide. Log-softmax: maximum, subtract, exponential, sum, subtract the
logarithm. Sums and maxima count 1 per element; the logarithm of a row's sum is not counted. Applying a mask is free.
Masked elements count like all others, because the data decide which elements are masked.

Backward, with output y and gradient g: y·(g - Σ g·y) is product, sum, subtract, multiply; g - exp(y)·Σg is sum,
exponential, multiply, subtract.

Source: the definitions; Goodfellow et al., "Deep Learning", 2016, §4.1 and §6.2.2.3, for subtracting the maximum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.elementary import real_parts, stored_elements
from pytest_flopsbudget.counting.costs.registry import other_formula

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call

_FORWARD, _BACKWARD = 5, 4


@other_formula(
    "aten._softmax",
    "aten._log_softmax",
    "aten._safe_softmax",
    "aten._masked_softmax",
    "aten._nested_tensor_softmax_with_shape",
    "aten._sparse_softmax",
    "aten._sparse_log_softmax",
)
def _softmax(call: Call) -> int:
    """Count every element, in any dimension; of a sparse tensor, only the stored elements."""
    output = call.first_output
    return _FORWARD * real_parts(output) * stored_elements(output)


@other_formula(
    "aten._softmax_backward_data",
    "aten._log_softmax_backward_data",
    "aten._masked_softmax_backward",
    "aten._sparse_softmax_backward_data",
    "aten._sparse_log_softmax_backward_data",
)
def _softmax_backward(call: Call) -> int:
    output = call.tensor("output")
    return _BACKWARD * real_parts(output) * stored_elements(output)


@other_formula("aten._transform_bias_rescale_qkv")
def _biased_and_scaled(call: Call) -> int:
    """Count adding the bias to queries, keys and values, and scaling the queries."""
    inputs = call.tensor("qkv")
    return real_parts(inputs) * (inputs.numel() + inputs.numel() // 3)
