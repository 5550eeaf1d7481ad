"""Losses: the operations of the definition per element, then 1 per element for a mean or a sum.

Work done once for all (the mean's division, a gradient's constant factor) is not counted. A loss with two cases counts
both and the comparison between them, as the selection that it is: which one holds is data. So is which classes are
ignored, and how many labels or steps a padded sequence has: all are counted in full.

Source: the definitions in the documentation of `torch.nn`'s loss functions, from which the gradients follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs.elementary import real_parts
from pytest_flopsbudget.counting.costs.registry import other_formula

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call

#: Forward: x - y, its square.
_MSE = 2
#: d = x - y, |d|, |d| < β, the square and its factor 1/2β, |d| - β/2.
_SMOOTH_L1 = 6
#: d = x - y, |d|, |d| < δ, the square and its factor 1/2, |d| - δ/2 and its factor δ.
_HUBER = 7
#: y·max(log x, -100) + (1 - y)·max(log(1 - x), -100): two logarithms, two maxima, two differences, two products, a sum
#: and its sign.
_CROSS_ENTROPY = 10
#: (1 - y)·x - log s(x), s the sigmoid, log s(x) = min(x, 0) - log1p(exp(-|x|)): difference, product, difference;
#: minimum, absolute value, sign, exponential, logarithm, difference.
_CROSS_ENTROPY_WITH_LOGITS = 9
#: log s(x) times 1 + (p - 1)·y: difference, product, sum; product.
_WITH_POSITIVE_WEIGHT = 4
#: log(1 + exp(-y·x)): sign, product, exponential, sum, logarithm.
_SOFT_MARGIN = 5

#: Backward, with the gradient g of the loss: d = x - y, times 2g.
_MSE_BACKWARD = 2
#: g · clamp((x - y)/β, -1, 1): difference, quotient, maximum, minimum, product.
_SMOOTH_L1_BACKWARD = 5
#: g · clamp(x - y, -δ, δ).
_HUBER_BACKWARD = 4
#: g · (x - y) / max((1 - x)·x, ε): two differences, product, maximum, quotient, product.
_CROSS_ENTROPY_BACKWARD = 6
#: -y·g·z/(1 + z), with z = exp(-y·x): sign, product, exponential, sum, quotient, two products.
_SOFT_MARGIN_BACKWARD = 7

#: A label against a class: sum with the margin, maximum, sum of all.
_MARGIN = 3
#: The sum, the test whether it counts, and the sum of the label's gradient.
_MARGIN_BACKWARD = 3

#: CTC, for a state of one step: the logarithm of a sum of three exponentials (two maxima, three differences, three
#: exponentials, two sums, the logarithm, the maximum added again), plus the label's log-probability (Graves et al.,
#: "Connectionist Temporal Classification", 2006, §4.1).
_CTC_STATE = 13
#: The sum of two exponentials at the end, and its sign.
_CTC_END = 9
#: Backward, for a state of one step: forward times backward variable, and the logarithm of its sum with those of the
#: same label: a sum; a maximum, two differences, two exponentials, a sum, the logarithm, the maximum added again.
_CTC_STATE_BACKWARD = 9
#: Backward, for a class of one step: g · (exp(p) - exp(sum + loss - p)) (the same, §4.2).
_CTC_CLASS_BACKWARD = 6

#: The number of `sum` in `at::Reduction`.
_NO_REDUCTION, _MEAN = 0, 1


def _is_reduced(call: Call) -> bool:
    return bool(call["reduction"] != _NO_REDUCTION)


def _elements(call: Call, *names: str) -> int:
    """Elements of these operands, which are broadcast."""
    operands = [call.tensor(name) for name in names]
    shape: torch.Size = torch.broadcast_shapes(*(operand.shape for operand in operands))
    return max(map(real_parts, operands)) * shape.numel()


def _loss(call: Call, per_element: int) -> int:
    return (per_element + _is_reduced(call)) * _elements(call, "self", "target")


def _gradient(call: Call, per_element: int) -> int:
    return per_element * _elements(call, "grad_output", "self", "target")


@other_formula("aten.mse_loss")
def _mse_loss(call: Call) -> int:
    return _loss(call, _MSE)


@other_formula("aten.mse_loss_backward")
def _mse_loss_backward(call: Call) -> int:
    """Where every element has a gradient of its own, its factor of 2 is one operation more."""
    return _gradient(call, _MSE_BACKWARD + (not _is_reduced(call)))


@other_formula("aten.smooth_l1_loss")
def _smooth_l1_loss(call: Call) -> int:
    return _loss(call, _SMOOTH_L1)


@other_formula("aten.smooth_l1_loss_backward")
def _smooth_l1_loss_backward(call: Call) -> int:
    return _gradient(call, _SMOOTH_L1_BACKWARD)


@other_formula("aten.huber_loss")
def _huber_loss(call: Call) -> int:
    return _loss(call, _HUBER)


@other_formula("aten.huber_loss_backward")
def _huber_loss_backward(call: Call) -> int:
    return _gradient(call, _HUBER_BACKWARD)


@other_formula("aten.soft_margin_loss")
def _soft_margin_loss(call: Call) -> int:
    return _loss(call, _SOFT_MARGIN)


@other_formula("aten.soft_margin_loss_backward")
def _soft_margin_loss_backward(call: Call) -> int:
    return _gradient(call, _SOFT_MARGIN_BACKWARD)


@other_formula("aten.binary_cross_entropy")
def _binary_cross_entropy(call: Call) -> int:
    return _loss(call, _CROSS_ENTROPY + (call["weight"] is not None))


@other_formula("aten.binary_cross_entropy_backward")
def _binary_cross_entropy_backward(call: Call) -> int:
    return _gradient(call, _CROSS_ENTROPY_BACKWARD + (call["weight"] is not None))


@other_formula("aten.binary_cross_entropy_with_logits")
def _binary_cross_entropy_with_logits(call: Call) -> int:
    per_element = _CROSS_ENTROPY_WITH_LOGITS + (call["weight"] is not None)
    if call["pos_weight"] is not None:
        per_element += _WITH_POSITIVE_WEIGHT
    return _loss(call, per_element)


@other_formula("aten.nll_loss_forward", "aten.nll_loss2d_forward")
def _nll_loss(call: Call) -> int:
    """Count, for input (rows, classes, …), -x[label] times the class's weight; a mean also sums values and weights."""
    rows = real_parts(call.tensor("self")) * call.tensor("target").numel()
    weighted = call["weight"] is not None
    mean = weighted and call["reduction"] == _MEAN
    return rows * (1 + weighted + _is_reduced(call) + mean)


@other_formula("aten.nll_loss_backward", "aten.nll_loss2d_backward")
def _nll_loss_backward(call: Call) -> int:
    """A row's gradient is at its label: the negative of g, once if losses are summed, times the weight."""
    rows = real_parts(call.tensor("self")) * call.tensor("target").numel()
    return rows * ((not _is_reduced(call)) + (call["weight"] is not None))


def _rows_and_classes(call: Call) -> tuple[int, int]:
    """Input (rows, classes) or (classes,)."""
    inputs = call.tensor("self")
    classes = inputs.shape[-1] if inputs.ndim else 1
    return real_parts(inputs) * inputs.shape[:-1].numel(), classes


def _margin_extras(call: Call) -> int:
    """The square, for p = 2, and the weight of the label's class."""
    return int(call["p"] != 1) + int(call["weight"] is not None)


@other_formula("aten.multi_margin_loss")
def _multi_margin_loss(call: Call) -> int:
    """max(0, margin - x[label] + x[class])^p of every other class than the label."""
    rows, classes = _rows_and_classes(call)
    return rows * ((classes - 1) * (_MARGIN + _margin_extras(call)) + _is_reduced(call))


@other_formula("aten.multi_margin_loss_backward")
def _multi_margin_loss_backward(call: Call) -> int:
    """Times the weight, 2z for p = 2, and the loss's gradient."""
    rows, classes = _rows_and_classes(call)
    return rows * (classes - 1) * (_MARGIN_BACKWARD + _margin_extras(call) + 1)


@other_formula("aten.multilabel_margin_loss_forward")
def _multilabel_margin_loss(call: Call) -> int:
    """max(0, 1 - x[label] + x[class]): a row may have as many labels as classes; each is held against every class."""
    rows, classes = _rows_and_classes(call)
    return rows * (classes**2 * _MARGIN + _is_reduced(call))


@other_formula("aten.multilabel_margin_loss_backward")
def _multilabel_margin_loss_backward(call: Call) -> int:
    """Into the gradients of label and class, which are then multiplied by the loss's."""
    rows, classes = _rows_and_classes(call)
    return rows * (classes**2 * (_MARGIN_BACKWARD + 1) + classes)


def _ctc_forward(steps: int, sequences: int, states: int) -> int:
    return sequences * (max(steps - 1, 0) * states * _CTC_STATE + _CTC_END)


def _ctc_backward(steps: int, sequences: int, states: int, classes: int) -> int:
    """Count the recursion backward in time, then the gradients."""
    way_back = max(steps - 1, 0) * states * _CTC_STATE
    return sequences * (way_back + steps * (states * _CTC_STATE_BACKWARD + classes * _CTC_CLASS_BACKWARD))


def _steps_sequences_classes(log_probs: torch.Tensor) -> tuple[int, int, int]:
    """(steps, sequences, classes), or (steps, classes) of one sequence."""
    steps, *sequences, classes = log_probs.shape
    return steps, sequences[0] if sequences else 1, classes


@other_formula("aten._ctc_loss")
def _ctc_loss(call: Call) -> int:
    """Alpha (sequences, steps, states): with blanks between and around them, 2·(longest target) + 1 states."""
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
    """The kernel works out the gradients on its way forward."""
    log_probs = call.tensor("log_probs")
    steps, sequences, classes = _steps_sequences_classes(log_probs)
    states = 2 * _longest_target(call["target_lengths"], call.tensor("targets")) + 1
    forward = _ctc_forward(steps, sequences, states)
    return real_parts(log_probs) * (forward + _ctc_backward(steps, sequences, states, classes))


def _longest_target(lengths: Any, targets: torch.Tensor) -> int:
    """Lengths in a tensor are data; a padded target (sequences, length) shows them by its size."""
    return targets.shape[-1] if isinstance(lengths, torch.Tensor) else max(lengths, default=0)
