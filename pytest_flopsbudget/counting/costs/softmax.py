"""Softmax and log-softmax: 5 operations per element in the forward pass, 4 in the backward pass.

Forward:

- Softmax: maximum, subtract, exponential, sum, divide.
- Log-softmax: maximum, subtract, exponential, sum, subtract the logarithm.

Backward, with output y and gradient g:

- Softmax, y·(g - Σ g·y): product, sum, subtract, multiply.
- Log-softmax, g - exp(y)·Σg: sum, exponential, multiply, subtract.

Sums and maxima count 1 operation per element. The logarithm of a row's sum is not counted. Applying a mask is free.
Masked elements are counted like all others, because which elements are masked depends on data.

Sources: the definitions; Goodfellow et al., "Deep Learning", 2016, §4.1 and §6.2.2.3, for subtracting the maximum.
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
    """Count 5 operations for each stored element. A dense tensor stores all of its elements."""
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
    """Count the additions of biases to queries, keys and values, and the scaling of the queries."""
    inputs = call.tensor("qkv")
    return real_parts(inputs) * (inputs.numel() + inputs.numel() // 3)
