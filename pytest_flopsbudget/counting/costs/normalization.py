"""Normalizations: operations per element of the input, from the definitions.

A sum over n values counts 1 operation per element. Work that is done once per row or channel is not counted: a division
by n, epsilon, a root, running statistics. Scaling by a weight counts 1 operation per element, and adding a bias counts
1, if the call passes them.

The table shows the forward pass, without weight and bias:

========================  ==========================================================  ===
layer, group norm         sum, subtract mean, square, sum, multiply by 1/std          5
batch norm in training    sum, subtract mean, square, sum, multiply by 1/std          5
batch norm in inference   scale and shift; the statistics are folded into both        2
RMS norm                  square, sum, multiply by 1/rms                              3
weight norm               square, sum, multiply by g/‖v‖                              3
========================  ==========================================================  ===

Each function for a backward pass derives its gradients from these definitions.

Sources: Ioffe and Szegedy, "Batch Normalization", 2015, algorithms 1 and 2; Ba et al., "Layer Normalization", 2016; Wu
and He, "Group Normalization", 2018; Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019; Salimans and
Kingma, "Weight Normalization", 2016.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.costs.distances import norm_terms, p_norm
from pytest_flopsbudget.counting.costs.elementary import real_parts, stored_elements
from pytest_flopsbudget.counting.costs.operands import bytes_passed, total_bytes
from pytest_flopsbudget.counting.costs.registry import operator, other_formula
from pytest_flopsbudget.counting.torch_private import current_autograd_node

if TYPE_CHECKING:
    import torch

    from pytest_flopsbudget.counting.costs.registry import Call

_STATISTICS = 4  # sum, subtract mean, square, sum
_NORMALIZED = _STATISTICS + 1
_SCALE_AND_SHIFT = 2
_ROOT_MEAN_SQUARE = 3
_WEIGHT_NORM, _WEIGHT_NORM_BACKWARD = 3, 5


def _given(call: Call, *names: str) -> int:
    """Return how many of the named optional tensors the call passes."""
    return sum(call[name] is not None for name in names)


def _elements(tensor: torch.Tensor) -> int:
    return real_parts(tensor) * tensor.numel()


@other_formula(
    "aten.native_batch_norm",
    "aten._native_batch_norm_legit",
    "aten._native_batch_norm_legit_functional",
    "aten.cudnn_batch_norm",
    "aten.miopen_batch_norm",
)
def _batch_norm(call: Call) -> int:
    return _trained_batch_norm(call) if call["training"] else _inferred_batch_norm(call)


def _batch_norm_traffic(call: Call) -> int:
    """Count the bytes of every operand and output once.

    In training, the running statistics count twice, because they are read and written.
    """
    if "out" in call.names:
        return bytes_passed(call)  # the outputs are among the arguments
    statistics = [call[name] for name in ("running_mean", "running_var") if name in call.names]
    return bytes_passed(call) + total_bytes((call.output,)) + (total_bytes(statistics) if call["training"] else 0)


operator(
    "aten.native_batch_norm",
    "aten._native_batch_norm_legit",
    "aten.cudnn_batch_norm",
    traffic=_batch_norm_traffic,
)


@other_formula("aten._batch_norm_with_update", "aten._batch_norm_with_update_functional")
def _trained_batch_norm(call: Call) -> int:
    return (_NORMALIZED + _given(call, "weight", "bias")) * _elements(call.tensor("input"))


@other_formula("aten._batch_norm_no_update", "aten._native_batch_norm_legit_no_training")
def _inferred_batch_norm(call: Call) -> int:
    return _SCALE_AND_SHIFT * _elements(call.tensor("input"))


@other_formula("aten.quantized_batch_norm")
def _quantized_batch_norm(call: Call) -> int:
    """Count 2 operations per element, as for batch norm in inference."""
    return _SCALE_AND_SHIFT * call.tensor("input").numel()


def _batch_norm_gradients(training: bool, for_input: bool, for_weight: bool, for_bias: bool) -> int:
    """Return the operations per element of the requested gradients of a batch norm."""
    # x̂ = (x - mean)/std, m is the number of values in a channel, w is the weight, g is the output's gradient.
    # Bias, Σg: 1. Weight, Σ g·x̂: 2 for x̂, a product, a sum.
    # Input in training, w/std · (g - Σg/m - x̂·(Σ g·x̂)/m): both sums, and 4 for multiply, subtract, subtract, multiply
    # (Ioffe and Szegedy, 2015, §3, rearranged). Input in inference, g·w/std: 1.
    through_statistics = for_input and training
    bias = bool(for_bias or through_statistics)
    weight = 4 * bool(for_weight or through_statistics)
    inputs = (4 if training else 1) * bool(for_input)
    return bias + weight + inputs


@other_formula("aten.native_batch_norm_backward")
def _batch_norm_backward(call: Call) -> int:
    """Count the operations of the gradients that the output mask requests, of input, weight and bias."""
    return _batch_norm_gradients(call["train"], *call["output_mask"]) * _elements(call.tensor("grad_out"))


@other_formula("aten.batch_norm_backward")
def _updated_batch_norm_backward(call: Call) -> int:
    return _batch_norm_gradients(call["update"], *call["output_mask"]) * _elements(call.tensor("grad_out"))


@other_formula("aten.cudnn_batch_norm_backward", "aten.miopen_batch_norm_backward")
def _fused_batch_norm_backward(call: Call) -> int:
    """Count the operations of the requested gradients of a batch norm in training, even if the kernel computes all."""
    node: Any = current_autograd_node()
    # The order is the order of the forward operator's arguments: input, weight, bias.
    asked = [True] * 3 if node is None else [function is not None for function, _ in node.next_functions[:3]]
    return _batch_norm_gradients(True, *asked) * _elements(call.tensor("grad_output"))


@other_formula("aten.batch_norm_stats", "aten.batch_norm_update_stats")
def _statistics(call: Call) -> int:
    """Count the operations of the mean and variance of each channel."""
    return _STATISTICS * _elements(call.tensor("input"))


@other_formula("aten.batch_norm_gather_stats", "aten.batch_norm_gather_stats_with_counts")
def _gathered_statistics(_call: Call) -> int:
    """Return 0, because work that is done once per channel is not counted."""
    return 0


@other_formula("aten.batch_norm_elemt")
def _normalized_by_statistics(call: Call) -> int:
    """Count the operations of normalizing the input by a mean and variance that another operator computed."""
    return (_NORMALIZED - _STATISTICS + _given(call, "weight", "bias")) * _elements(call.tensor("input"))


@other_formula("aten.batch_norm_backward_reduce")
def _sums_of_gradients(call: Call) -> int:
    """Count the operations of two sums: of the output's gradient g, and of g times the normalized input.

    A sum counts only if a requested gradient needs it.
    """
    # Σg: 1; Σ g·x̂: 2 for x̂, a product, a sum
    of_gradient = call["input_g"] or call["bias_g"]
    of_product = call["input_g"] or call["weight_g"]
    return (bool(of_gradient) + 4 * bool(of_product)) * _elements(call.tensor("grad_out"))


@other_formula("aten.batch_norm_backward_elemt")
def _gradient_by_sums(call: Call) -> int:
    """Count the operations of the gradient of the input, without the two sums that `_sums_of_gradients` counts."""
    # multiply, subtract, subtract, multiply
    return 4 * _elements(call.tensor("grad_out"))


@other_formula("aten.native_layer_norm", "aten.native_group_norm")
def _layer_norm(call: Call) -> int:
    return (_NORMALIZED + _given(call, "weight", "bias")) * _elements(call.tensor("input"))


@other_formula("aten.native_layer_norm_backward", "aten.native_group_norm_backward")
def _layer_norm_backward(call: Call) -> int:
    """Count the operations of the requested gradients of a layer norm or group norm."""
    # x̂ = (x - mean)/std, g is the output's gradient, h = g·weight, and each row (or group) has n values.
    # x̂: 2. Weight, Σ g·x̂: 2. Bias, Σg: 1. Input, 1/std · (h - Σh/n - x̂·(Σ h·x̂)/n): sum, product, sum, multiply,
    # subtract, subtract, multiply (7), and 1 for h if there is a weight.
    for_input, for_weight, for_bias = map(bool, call["output_mask"])
    per_element = 2 * (for_input or for_weight) + 2 * for_weight + for_bias
    if for_input:
        per_element += 7 + _given(call, "weight")
    return per_element * _elements(call.tensor("grad_out"))


def _normalized(call: Call, tensor: torch.Tensor) -> int:
    """Return the number of elements that RMS norm takes the mean of. PyTorch 2.8 passes their number of dimensions."""
    if "normalized_shape_ndim" in call.names:
        return math.prod(tensor.shape[tensor.ndim - call["normalized_shape_ndim"] :])
    return math.prod(call["normalized_shape"])


@other_formula("aten._fused_rms_norm")
def _rms_norm(call: Call) -> int:
    """Count the operations of an RMS norm in its unfused form."""
    inputs = call.tensor("input")
    width = _normalized(call, inputs)
    # per element: the square, the mean, the products with 1/rms and with the weight; per row: + epsilon, the root
    return (_ROOT_MEAN_SQUARE + _given(call, "weight")) * _elements(inputs) + 2 * (_elements(inputs) // width)


@other_formula("aten._fused_rms_norm_backward")
def _rms_norm_backward(call: Call) -> int:
    """Count the operations of the requested gradients of an RMS norm, which are those of its unfused form."""
    # g is the output's gradient, r = 1/rms, h = g·weight, and each row has n elements. Gradient of the input x:
    # - h: 1 per element, if there is a weight.
    # - The gradients of the product x·r: 2 per element.
    # - The gradient of r, a sum: n - 1 per row; through r, including its power: 3 per row.
    # - The quotient of the mean, 1; the square, 3; the sum of the two gradients of x, 1 per element.
    # Gradient of the weight: the product g·x·r, summed over the rows.
    for_input, for_weight = map(bool, call["output_mask"])
    count = _elements(call.tensor("grad_out"))
    width = _normalized(call, call.tensor("grad_out"))
    work = 2 * count - width if for_weight else 0
    if for_input:
        work += (8 + _given(call, "weight")) * count + 2 * (count // width)
    return work


@other_formula("aten._weight_norm_interface")
def _weight_norm(call: Call) -> int:
    return _WEIGHT_NORM * _elements(call.tensor("v"))


@other_formula("aten._weight_norm_interface_backward")
def _weight_norm_backward(call: Call) -> int:
    # v' = g/‖v‖ · (w' - v·(Σ w'·v)/‖v‖²), equation 3 of Salimans and Kingma, where w' and v' are gradients: a product
    # and a sum for Σ w'·v; multiply, subtract, multiply
    return _WEIGHT_NORM_BACKWARD * _elements(call.tensor("grad_w"))


def _renormalized(norm_type: float) -> int:
    """Return the operations per element of a row, for the norm of the row and for its scaling.

    Only rows with a large norm are scaled. Which rows these are depends on data, so every row counts as scaled.
    """
    return norm_terms(norm_type) + 2


@other_formula("aten.renorm")
def _renorm(call: Call) -> int:
    return _renormalized(float(call["p"])) * _elements(call.tensor("self"))


@other_formula("aten.embedding_renorm")
def _embedding_renorm(call: Call) -> int:
    """Count the operations of the norm and the scaling of one row for each index. Repeated indices count again."""
    weight = call.tensor("self")
    per_row = _renormalized(float(call["norm_type"])) * real_parts(weight) * weight.shape[1]
    return call.tensor("indices").numel() * per_row


@other_formula("aten.native_norm")
def _norm(call: Call) -> int:
    """Count the operations of the norm of all elements. For a sparse tensor, only the stored elements count."""
    inputs = call.tensor("self")
    norm_type = 2.0 if call["p"] is None else float(call["p"])
    return real_parts(inputs) * p_norm(norm_type, stored_elements(inputs))
