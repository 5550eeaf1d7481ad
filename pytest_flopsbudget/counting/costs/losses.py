"""Losses: the operations per element in the definition, and 1 per element for a mean or a sum.

Work that is done once for all elements is not counted: the division of the mean, the constant factor of a gradient. If
a loss has two cases, both cases are counted, and also the comparison that selects one, since the selection depends on
data. Ignored classes, absent labels and the padding of sequences also depend on data, so they are counted in full.

Source: the definitions in the documentation of `torch.nn`'s loss functions. The gradients follow from the definitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs.elementary import real_parts
from pytest_flopsbudget.counting.costs.registry import other_formula

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call

#: Name of a loss → operations per element, for input x and target y. Each comment lists the counted operations.
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
#: Operations for the weight p of positive targets: log s(x) is multiplied with 1 + (p - 1)·y. The factor needs a
#: difference, a product and a sum; then there is the product with log s(x).
_POSITIVE_WEIGHT = 4

#: Name of the gradient of a loss → operations per element. g is the gradient of the loss. Each comment lists the
#: operations that are counted.
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
#: Operations of the gradient for each pair of a label and a class: the sum with the margin, the test whether it is
#: positive, the sum into the gradient of the label.
_MARGIN_BACKWARD = 3

#: CTC: operations per state and step. The logarithm of a sum of three exponentials needs two maxima, three differences,
#: three exponentials, two sums, the logarithm, and the sum with the maximum. Then the label's log-probability is added
#: (Graves et al., "Connectionist Temporal Classification", 2006, §4.1).
_CTC_STATE = 13
#: CTC: operations per sequence, for the logarithm of the sum of two exponentials at the end, and its change of sign.
_CTC_END = 9
#: CTC, backward: operations per state and step. The product of the forward and the backward variable is a sum of
#: logarithms (1). The other states of the label are then added, in logarithms: a maximum, two differences, two
#: exponentials, a sum, the logarithm, the sum with the maximum (8).
_CTC_STATE_BACKWARD = 9
#: CTC, backward: operations per class and step, for g · (exp(p) - exp(sum + loss - p)) (Graves et al., §4.2).
_CTC_CLASS_BACKWARD = 6

#: The numbers of the reductions "none" and "mean" in `at::Reduction`.
_NO_REDUCTION, _MEAN = 0, 1


def _is_reduced(call: Call) -> bool:
    return bool(call["reduction"] != _NO_REDUCTION)


def _elements(call: Call, *names: str) -> int:
    """Return how many real numbers the named operands have after they are broadcast to one shape."""
    operands = [call.tensor(name) for name in names]
    shape: torch.Size = torch.broadcast_shapes(*(operand.shape for operand in operands))
    return max(map(real_parts, operands)) * shape.numel()


def _is_given(call: Call, name: str) -> bool:
    """Return whether the operator has this argument and the call passes a value other than None."""
    return name in call.names and call[name] is not None


@other_formula(*_FORWARD)
def _loss(call: Call) -> int:
    per_element = _FORWARD[call.name] + _is_given(call, "weight") + _is_reduced(call)
    if _is_given(call, "pos_weight"):
        per_element += _POSITIVE_WEIGHT
    return per_element * _elements(call, "self", "target")


@other_formula(*_BACKWARD)
def _gradient(call: Call) -> int:
    per_element = _BACKWARD[call.name] + _is_given(call, "weight")
    if call.name == "aten.mse_loss_backward":
        per_element += not _is_reduced(call)  # 2g; after a reduction, it is a single number
    return per_element * _elements(call, "grad_output", "self", "target")


@other_formula("aten.nll_loss_forward", "aten.nll_loss2d_forward")
def _nll_loss(call: Call) -> int:
    """Count one negation for each label.

    Products with class weights are counted if the call passes them. Sums are counted if the call requests a reduction.
    """
    rows = real_parts(call.tensor("self")) * call.tensor("target").numel()
    weighted = call["weight"] is not None
    mean = weighted and call["reduction"] == _MEAN  # the sum of the weights
    return rows * (1 + weighted + _is_reduced(call) + mean)


@other_formula("aten.nll_loss_backward", "aten.nll_loss2d_backward")
def _nll_loss_backward(call: Call) -> int:
    rows = real_parts(call.tensor("self")) * call.tensor("target").numel()
    # -g, which is a single number after a reduction; the product with the weight of the class
    return rows * ((not _is_reduced(call)) + (call["weight"] is not None))


def _rows_and_classes(call: Call) -> tuple[int, int]:
    """Return the number of rows and the number of classes of an input (rows, classes) or (classes,).

    A row of complex numbers counts as two rows.
    """
    inputs = call.tensor("self")
    classes = inputs.shape[-1] if inputs.ndim else 1
    return real_parts(inputs) * inputs.shape[:-1].numel(), classes


def _margin_extras(call: Call) -> int:
    """Return the extra operations per margin: 1 if the margin is squared, and 1 if it is multiplied with a weight."""
    return int(call["p"] != 1) + int(call["weight"] is not None)


@other_formula("aten.multi_margin_loss")
def _multi_margin_loss(call: Call) -> int:
    """Count the operations in max(0, margin - x[label] + x[class])^p for each class other than the label."""
    rows, classes = _rows_and_classes(call)
    return rows * ((classes - 1) * (_MARGIN + _margin_extras(call)) + _is_reduced(call))


@other_formula("aten.multi_margin_loss_backward")
def _multi_margin_loss_backward(call: Call) -> int:
    """Count the operations of the gradient for each pair of the label and another class."""
    rows, classes = _rows_and_classes(call)
    # + 1: the product with the output's gradient
    return rows * (classes - 1) * (_MARGIN_BACKWARD + _margin_extras(call) + 1)


@other_formula("aten.multilabel_margin_loss_forward")
def _multilabel_margin_loss(call: Call) -> int:
    """Count the operations in max(0, 1 - x[label] + x[class]) for each pair of a label and a class.

    Every class counts as a label, because the number of labels depends on data.
    """
    rows, classes = _rows_and_classes(call)
    return rows * (classes**2 * _MARGIN + _is_reduced(call))


@other_formula("aten.multilabel_margin_loss_backward")
def _multilabel_margin_loss_backward(call: Call) -> int:
    """Count the operations of the gradient for each pair of a label and a class.

    Every class counts as a label, because the number of labels depends on data.
    """
    rows, classes = _rows_and_classes(call)
    # + 1: the sum into the gradient of the class; classes: the products with the output's gradient
    return rows * (classes**2 * (_MARGIN_BACKWARD + 1) + classes)


def _ctc_forward(steps: int, sequences: int, states: int) -> int:
    return sequences * (max(steps - 1, 0) * states * _CTC_STATE + _CTC_END)


def _ctc_backward(steps: int, sequences: int, states: int, classes: int) -> int:
    """Count the operations of CTC's recursion backward in time, and of the gradients of the log-probabilities."""
    way_back = max(steps - 1, 0) * states * _CTC_STATE
    return sequences * (way_back + steps * (states * _CTC_STATE_BACKWARD + classes * _CTC_CLASS_BACKWARD))


def _steps_sequences_classes(log_probs: torch.Tensor) -> tuple[int, int, int]:
    """Return the sizes of log-probabilities (steps, sequences, classes), or (steps, classes) for one sequence."""
    steps, *sequences, classes = log_probs.shape
    return steps, sequences[0] if sequences else 1, classes


@other_formula("aten._ctc_loss")
def _ctc_loss(call: Call) -> int:
    """Count the operations of CTC's recursion forward in time."""
    log_probs, alpha = call.tensor("log_probs"), call.output[1]
    steps, sequences, _ = _steps_sequences_classes(log_probs)
    # states: the labels of the longest target, and blanks before, between and after them
    return real_parts(log_probs) * _ctc_forward(steps, sequences, alpha.shape[-1])


@other_formula("aten._ctc_loss_backward")
def _ctc_loss_backward(call: Call) -> int:
    log_probs, alpha = call.tensor("log_probs"), call.tensor("log_alpha")
    steps, sequences, classes = _steps_sequences_classes(log_probs)
    return real_parts(log_probs) * _ctc_backward(steps, sequences, alpha.shape[-1], classes)


@other_formula("aten._cudnn_ctc_loss", "aten.miopen_ctc_loss")
def _fused_ctc_loss(call: Call) -> int:
    """Count the operations of the forward and the backward pass, because the kernel runs both at once."""
    log_probs = call.tensor("log_probs")
    steps, sequences, classes = _steps_sequences_classes(log_probs)
    states = 2 * _longest_target(call["target_lengths"], call.tensor("targets")) + 1
    forward = _ctc_forward(steps, sequences, states)
    return real_parts(log_probs) * (forward + _ctc_backward(steps, sequences, states, classes))


def _longest_target(lengths: Any, targets: torch.Tensor) -> int:
    """Return the length of the longest target.

    If the lengths are a tensor, return the padded length, because the tensor's values may be unknown.
    """
    return targets.shape[-1] if isinstance(lengths, torch.Tensor) else max(lengths, default=0)
