"""Losses: the operations of the definition per element, then 1 per element for a mean or a sum.

Work that is done once for all elements is not counted: the division of the mean, the constant factor of a gradient. A
loss with two cases counts both cases and the comparison that selects one, since the selection depends on data. Ignored
classes, absent labels and the padding of sequences depend on data too and are counted in full.

Source: the definitions in the documentation of `torch.nn`'s loss functions, from which the gradients follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs.elementary import real_parts
from pytest_flopsbudget.counting.costs.registry import other_formula

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call

#: Loss → operations per element, for input x and target y.
_FORWARD = {
    # d = x - y, its square.
    "aten.mse_loss": 2,
    # d = x - y, |d|, |d| < β, the square and its factor 1/2β, |d| - β/2.
    "aten.smooth_l1_loss": 6,
    # d = x - y, |d|, |d| < δ, the square and its factor 1/2, |d| - δ/2 and its factor δ.
    "aten.huber_loss": 7,
    # log(1 + exp(-y·x)): sign, product, exponential, sum, logarithm.
    "aten.soft_margin_loss": 5,
    # y·max(log x, -100) + (1 - y)·max(log(1 - x), -100): two logarithms, two maxima, two differences, two products, a
    # sum and its sign.
    "aten.binary_cross_entropy": 10,
    # (1 - y)·x - log s(x), where s is the sigmoid and log s(x) = min(x, 0) - log1p(exp(-|x|)): difference, product,
    # difference; minimum, absolute value, sign, exponential, logarithm, difference.
    "aten.binary_cross_entropy_with_logits": 9,
}
#: The product of log s(x) and 1 + (p - 1)·y, for the weight p of positive targets: difference, product, sum; product.
_POSITIVE_WEIGHT = 4

#: Gradient of a loss → operations per element, for the gradient g of the loss.
_BACKWARD = {
    # d = x - y, times 2g.
    "aten.mse_loss_backward": 2,
    # g · clamp((x - y)/β, -1, 1): difference, quotient, maximum, minimum, product.
    "aten.smooth_l1_loss_backward": 5,
    # g · clamp(x - y, -δ, δ): difference, maximum, minimum, product.
    "aten.huber_loss_backward": 4,
    # -y·g·z/(1 + z), with z = exp(-y·x): sign, product, exponential, sum, quotient, two products.
    "aten.soft_margin_loss_backward": 7,
    # g · (x - y) / max((1 - x)·x, ε): two differences, product, maximum, quotient, product.
    "aten.binary_cross_entropy_backward": 6,
}

#: Operations for each pair of a label and a class: the sum with the margin, the maximum, the sum over pairs.
_MARGIN = 3
#: Operations of the gradient for each such pair: the sum with the margin, the test whether it is positive, the sum into
#: the gradient of the label.
_MARGIN_BACKWARD = 3

#: CTC, operations per state and step: the logarithm of a sum of three exponentials (two maxima, three differences,
#: three exponentials, two sums, the logarithm, the sum with the maximum), plus the label's log-probability (Graves et
#: al., "Connectionist Temporal Classification", 2006, §4.1).
_CTC_STATE = 13
#: Operations per sequence: the logarithm of the sum of two exponentials at the end, and its sign.
_CTC_END = 9
#: Backward, operations per state and step. The product of the forward and the backward variable is a sum of logarithms.
#: The logarithm of its sum with the other states of the label is a maximum, two differences, two exponentials, a sum,
#: the logarithm, the sum with the maximum.
_CTC_STATE_BACKWARD = 9
#: Backward, operations per class and step: g · (exp(p) - exp(sum + loss - p)) (Graves et al., §4.2).
_CTC_CLASS_BACKWARD = 6

#: The numbers of "none" and "mean" in `at::Reduction`.
_NO_REDUCTION, _MEAN = 0, 1


def _is_reduced(call: Call) -> bool:
    return bool(call["reduction"] != _NO_REDUCTION)


def _elements(call: Call, *names: str) -> int:
    """Return how many real numbers these operands have when they are broadcast to one shape."""
    operands = [call.tensor(name) for name in names]
    shape: torch.Size = torch.broadcast_shapes(*(operand.shape for operand in operands))
    return max(map(real_parts, operands)) * shape.numel()


def _is_given(call: Call, name: str) -> bool:
    """Return whether the operator has this argument and the call passes something other than None."""
    return name in call.names and call[name] is not None


@other_formula(*_FORWARD)
def _loss(call: Call) -> int:
    per_element = _FORWARD[call.name] + _is_given(call, "weight") + _is_reduced(call)
    if _is_given(call, "pos_weight"):
        per_element += _POSITIVE_WEIGHT
    return per_element * _elements(call, "self", "target")


@other_formula(*_BACKWARD)
def _gradient(call: Call) -> int:
    """Count the gradient; without a reduction, mean squared error multiplies 2 and g for each element."""
    per_element = _BACKWARD[call.name] + _is_given(call, "weight")
    if call.name == "aten.mse_loss_backward":
        per_element += not _is_reduced(call)
    return per_element * _elements(call, "grad_output", "self", "target")


@other_formula("aten.nll_loss_forward", "aten.nll_loss2d_forward")
def _nll_loss(call: Call) -> int:
    """Count for each label -x[label], its product with the class's weight, and the sums of losses and of weights.

    The input is (rows, classes, …). Only a weighted mean needs the sum of weights.
    """
    rows = real_parts(call.tensor("self")) * call.tensor("target").numel()
    weighted = call["weight"] is not None
    mean = weighted and call["reduction"] == _MEAN
    return rows * (1 + weighted + _is_reduced(call) + mean)


@other_formula("aten.nll_loss_backward", "aten.nll_loss2d_backward")
def _nll_loss_backward(call: Call) -> int:
    """Count for each label -g, which with a reduction is one number for all labels, and the product with the weight."""
    rows = real_parts(call.tensor("self")) * call.tensor("target").numel()
    return rows * ((not _is_reduced(call)) + (call["weight"] is not None))


def _rows_and_classes(call: Call) -> tuple[int, int]:
    """Return the rows (times the real numbers per element) and classes of an input (rows, classes) or (classes,)."""
    inputs = call.tensor("self")
    classes = inputs.shape[-1] if inputs.ndim else 1
    return real_parts(inputs) * inputs.shape[:-1].numel(), classes


def _margin_extras(call: Call) -> int:
    """Return the operations per pair for the square, if p = 2, and for the weight of the label's class."""
    return int(call["p"] != 1) + int(call["weight"] is not None)


@other_formula("aten.multi_margin_loss")
def _multi_margin_loss(call: Call) -> int:
    """Count max(0, margin - x[label] + x[class])^p for each class other than the label."""
    rows, classes = _rows_and_classes(call)
    return rows * ((classes - 1) * (_MARGIN + _margin_extras(call)) + _is_reduced(call))


@other_formula("aten.multi_margin_loss_backward")
def _multi_margin_loss_backward(call: Call) -> int:
    """Count for each pair the products with the weight, with 2z for a margin z if p = 2, and with g."""
    rows, classes = _rows_and_classes(call)
    return rows * (classes - 1) * (_MARGIN_BACKWARD + _margin_extras(call) + 1)


@other_formula("aten.multilabel_margin_loss_forward")
def _multilabel_margin_loss(call: Call) -> int:
    """Count max(0, 1 - x[label] + x[class]) for each pair of classes: at most every class of a row is a label."""
    rows, classes = _rows_and_classes(call)
    return rows * (classes**2 * _MARGIN + _is_reduced(call))


@other_formula("aten.multilabel_margin_loss_backward")
def _multilabel_margin_loss_backward(call: Call) -> int:
    """Count for each pair the sums into the gradients of label and class; then one product with g for each class."""
    rows, classes = _rows_and_classes(call)
    return rows * (classes**2 * (_MARGIN_BACKWARD + 1) + classes)


def _ctc_forward(steps: int, sequences: int, states: int) -> int:
    return sequences * (max(steps - 1, 0) * states * _CTC_STATE + _CTC_END)


def _ctc_backward(steps: int, sequences: int, states: int, classes: int) -> int:
    """Count the recursion backward in time, then the gradients."""
    way_back = max(steps - 1, 0) * states * _CTC_STATE
    return sequences * (way_back + steps * (states * _CTC_STATE_BACKWARD + classes * _CTC_CLASS_BACKWARD))


def _steps_sequences_classes(log_probs: torch.Tensor) -> tuple[int, int, int]:
    """Return the sizes of log-probabilities (steps, sequences, classes), or (steps, classes) for one sequence."""
    steps, *sequences, classes = log_probs.shape
    return steps, sequences[0] if sequences else 1, classes


@other_formula("aten._ctc_loss")
def _ctc_loss(call: Call) -> int:
    """Count the forward variables alpha (sequences, steps, states).

    There are 2·(longest target) + 1 states: the labels, and blanks before, between and after them.
    """
    log_probs, alpha = call.tensor("log_probs"), call.output[1]
    steps, sequences, _ = _steps_sequences_classes(log_probs)
    return real_parts(log_probs) * _ctc_forward(steps, sequences, alpha.shape[-1])


@other_formula("aten._ctc_loss_backward")
def _ctc_loss_backward(call: Call) -> int:
    log_probs, alpha = call.tensor("log_probs"), call.tensor("log_alpha")
    steps, sequences, classes = _steps_sequences_classes(log_probs)
    return real_parts(log_probs) * _ctc_backward(steps, sequences, alpha.shape[-1], classes)


@other_formula("aten._cudnn_ctc_loss", "aten.miopen_ctc_loss")
def _fused_ctc_loss(call: Call) -> int:
    """Count forward and backward pass, since the kernel computes the gradients in the forward pass."""
    log_probs = call.tensor("log_probs")
    steps, sequences, classes = _steps_sequences_classes(log_probs)
    states = 2 * _longest_target(call["target_lengths"], call.tensor("targets")) + 1
    forward = _ctc_forward(steps, sequences, states)
    return real_parts(log_probs) * (forward + _ctc_backward(steps, sequences, states, classes))


def _longest_target(lengths: Any, targets: torch.Tensor) -> int:
    """Return the longest length; if the lengths are in a tensor, the padded length of targets (sequences, length)."""
    return targets.shape[-1] if isinstance(lengths, torch.Tensor) else max(lengths, default=0)
