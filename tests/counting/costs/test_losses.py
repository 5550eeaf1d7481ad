"""Losses and their gradients cost as much as loops over their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from counted import Arithmetic, cost_of, gradient_flops, random, real_flops, tensor_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from zoo import both

REDUCTIONS = ["none", "mean", "sum"]


def chosen(condition, one, other):
    return one if condition else other


def mse(x, y):
    d = x - y
    return d * d


def smooth_l1(x, y, beta=0.5):
    d = x - y
    size = abs(d)
    square, line = d * d * (1 / (2 * beta)), size - beta / 2
    return chosen(size.less_than(beta), square, line)


def huber(x, y, delta=0.5):
    d = x - y
    size = abs(d)
    square, line = d * d * 0.5, (size - delta / 2) * delta
    return chosen(size.less_than(delta), square, line)


def soft_margin(x, y):
    return ((-y * x).exp() + 1).log()


def cross_entropy(x, y):
    return -(y * x.log().maximum(-100) + (1 - y) * (1 - x).log().maximum(-100))


def log_sigmoid(x):
    return x.minimum(0) - (-abs(x)).exp().log1p()


def cross_entropy_with_logits(x, y):
    return (1 - y) * x - log_sigmoid(x)


def mse_slope(x, y, g):
    """Return the gradient of the squared error. ``g`` contains all constant factors."""
    return (x - y) * g


def clamped(d, limit):
    return d.maximum(-limit).minimum(limit)


def smooth_l1_slope(x, y, g, beta=0.5):
    return clamped((x - y) / beta, 1.0) * g


def huber_slope(x, y, g, delta=0.5):
    return clamped(x - y, delta) * g


def soft_margin_slope(x, y, g):
    minus_y = -y
    z = (minus_y * x).exp()
    return minus_y * g * (z / (z + 1))


def cross_entropy_slope(x, y, g):
    return (x - y) / ((1 - x) * x).maximum(1e-12) * g


#: Name → (PyTorch's function, its options, its definition, and the gradient of the definition).
LOSSES = {
    "mse": (functional.mse_loss, {}, mse, mse_slope),
    "smooth_l1": (functional.smooth_l1_loss, {"beta": 0.5}, smooth_l1, smooth_l1_slope),
    "huber": (functional.huber_loss, {"delta": 0.5}, huber, huber_slope),
    "soft_margin": (functional.soft_margin_loss, {}, soft_margin, soft_margin_slope),
    "cross_entropy": (functional.binary_cross_entropy, {}, cross_entropy, cross_entropy_slope),
    "with_logits": (functional.binary_cross_entropy_with_logits, {}, cross_entropy_with_logits, None),
}


def reduced(arithmetic, losses, reduction):
    """Return the losses, or their sum or mean. The division of the mean is not counted."""
    if reduction == "none":
        return losses
    total = arithmetic.total(losses).value
    return total / len(losses) if reduction == "mean" else total


def operands(name, count):
    """Return inputs and targets that are valid for the loss ``name``."""
    x, y = random(count), random(count, seed=1)
    if name == "cross_entropy":
        x = x.sigmoid()
    if name in {"cross_entropy", "with_logits"}:
        y = y.sigmoid()
    if name == "soft_margin":
        y = y.sign()
    return x, y


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=8)
@given(count=st.integers(1, 6), reduction=st.sampled_from(REDUCTIONS))
def test_elementwise(name, count, reduction):
    function, options, definition, _ = LOSSES[name]
    x, y = operands(name, count)
    arithmetic = Arithmetic()
    losses = [definition(*pair) for pair in zip(arithmetic.numbers(x), arithmetic.numbers(y), strict=True)]

    def model(x, y):
        return function(x, y, reduction=reduction, **options)

    torch.testing.assert_close(tensor_of(reduced(arithmetic, losses, reduction)), model(x, y))
    assert both(model, (x, y)).other_flops == arithmetic.count


@pytest.mark.parametrize("name", [name for name, (*_, slope) in LOSSES.items() if slope])
@settings(max_examples=8)
@given(count=st.integers(1, 6), reduction=st.sampled_from(REDUCTIONS))
def test_gradients(name, count, reduction):
    function, options, _, slope = LOSSES[name]
    x, y = operands(name, count)
    x.requires_grad_()

    def model(x, y):
        return function(x, y, reduction=reduction, **options)

    output = model(x, y)
    grad = random(*output.shape, seed=2)
    arithmetic = Arithmetic()
    xs, ys = arithmetic.numbers(x.detach()), arithmetic.numbers(y)
    factor = 2.0 if name == "mse" else 1.0
    if reduction == "none":
        gs = arithmetic.numbers(grad)
        if name == "mse":  # without a reduction, each element has its own factor
            gs = [g * factor for g in gs]
    else:
        once = grad.item() * factor / (count if reduction == "mean" else 1)
        gs = [once] * count
    expected = [slope(*triple) for triple in zip(xs, ys, gs, strict=True)]
    (actual,) = torch.autograd.grad(output, x, grad)
    torch.testing.assert_close(tensor_of(expected), actual)
    assert gradient_flops(model, [x, y], grad) == arithmetic.count


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weights_of_cross_entropy(reduction):
    # A positive weight p replaces log s(x) by (1 + (p - 1)·y)·log s(x).
    x, y, weight, positive = random(5), random(5, seed=1).sigmoid(), random(5, seed=2).abs(), random(5, seed=3).abs()
    arithmetic = Arithmetic()
    losses = []
    for a, b, w, p in zip(*map(arithmetic.numbers, (x, y, weight, positive)), strict=True):
        log_weight = (p - 1) * b + 1
        losses.append(((1 - b) * a - log_weight * log_sigmoid(a)) * w)

    def model(x, y, w, p):
        return functional.binary_cross_entropy_with_logits(x, y, w, reduction=reduction, pos_weight=p)

    expected = reduced(arithmetic, losses, reduction)
    torch.testing.assert_close(tensor_of(expected), model(x, y, weight, positive))
    assert both(model, (x, y, weight, positive)).other_flops == arithmetic.count
    plain = Arithmetic()
    probabilities = x.sigmoid()
    pairs = zip(plain.numbers(probabilities), plain.numbers(y), plain.numbers(weight), strict=True)
    reduced(plain, [cross_entropy(a, b) * w for a, b, w in pairs], reduction)

    def weighted(x, y, w):
        return functional.binary_cross_entropy(x, y, w, reduction=reduction)

    assert both(weighted, (probabilities, y, weight)).other_flops == plain.count
    output = weighted(probabilities, y, weight)
    expected = (6 + 1) * 5
    assert gradient_flops(weighted, [probabilities.requires_grad_(), y, weight], torch.ones_like(output)) == expected


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@settings(max_examples=6)
@given(rows=st.integers(1, 4), classes=st.integers(1, 4), places=st.sampled_from([(), (2,), (2, 3)]))
def test_nll(weighted, reduction, rows, classes, places):
    x = random(rows, classes, *places)
    target = torch.arange(rows * math.prod(places)).remainder(classes).view(rows, *places)
    weight = random(classes, seed=1).abs() + 0.1 if weighted else None
    arithmetic = Arithmetic()
    picked = arithmetic.numbers(x.gather(1, target[:, None]).flatten())
    losses = [-number for number in picked]
    if weighted:
        weights = arithmetic.numbers(weight[target.flatten()])
        losses = [loss * w for loss, w in zip(losses, weights, strict=True)]
    expected = reduced(arithmetic, losses, reduction)
    if weighted and reduction == "mean":
        expected = expected * len(losses) / arithmetic.total(weights).value

    def model(x, target):
        return functional.nll_loss(x, target, weight, reduction=reduction)

    output = model(x, target)
    torch.testing.assert_close(tensor_of(expected).view(output.shape), output)
    assert both(model, (x, target)).other_flops == arithmetic.count
    # Backward: without reduction, a change of sign for each row; with weights, also a product for each row.
    expected = len(losses) * ((reduction == "none") + weighted)
    assert gradient_flops(model, [x.requires_grad_(), target], torch.ones_like(output)) == expected


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_multi_margin(p, weighted, reduction):
    # max(0, margin - x[label] + x[class])^p, summed over all other classes, and divided once
    x, target = random(3, 4), torch.tensor([0, 3, 1])
    weight = random(4, seed=1).abs() if weighted else None
    forward, backward = Arithmetic(), Arithmetic()
    output = functional.multi_margin_loss(x, target, p, 0.7, weight, reduction=reduction)
    grad = random(*output.shape, seed=2)
    losses, gradient = [], []
    for index, (row, label) in enumerate(zip(x, target.tolist(), strict=True)):
        g = (grad[index] if reduction == "none" else grad / (3 if reduction == "mean" else 1)).item() / 4
        numbers, again = forward.numbers(row), backward.numbers(row)
        held = [0.7 - row[label].item()] * 4
        terms = []
        slopes = [backward.zero() for _ in range(4)]
        for other in range(4):
            if other == label:
                continue
            z = (numbers[other] + held[other]).maximum(0)
            z = z * z if p == 2 else z
            terms.append(z * weight[label].item() if weighted else z)
            z = again[other] + held[other]
            slope = chosen(z.less_than(0), 0.0, 1.0 if p == 1 else 2 * z.value)
            slope = backward.note(slope) if p == 2 else _plain(backward, slope)
            slope = slope * weight[label].item() if weighted else slope
            slope = slope * g
            slopes[other] = slope
            slopes[label] = slopes[label] - slope
        losses.append(_plain(forward, forward.total(terms).value / 4))
        gradient.append(slopes)
    expected = reduced(forward, losses, reduction)
    torch.testing.assert_close(tensor_of(expected), output)

    def model(x, target):
        return functional.multi_margin_loss(x, target, p, 0.7, weight, reduction=reduction)

    assert both(model, (x, target)).other_flops == forward.count
    x.requires_grad_()
    (actual,) = torch.autograd.grad(model(x, target), x, grad)
    torch.testing.assert_close(tensor_of(gradient), actual)
    assert gradient_flops(model, [x, target], grad) == backward.count


def _plain(arithmetic, value):
    number = arithmetic.zero()
    number.value = value
    return number


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_multilabel_margin(reduction):
    # For each of 16 pairs of classes: a sum, a maximum and a sum. Backward: a sum, a comparison and two sums for each
    # pair, and a product for each of 4 classes.
    x, target = random(3, 4, grad=True), torch.tensor([[3, 0, -1, 1], [0, 1, 2, 3], [-1, 1, 2, 3]])

    def model(x, target):
        return functional.multilabel_margin_loss(x, target, reduction=reduction)

    assert both(model, (x.detach(), target)).other_flops == 3 * (16 * 3 + (reduction != "none"))
    output = model(x, target)
    assert gradient_flops(model, [x, target], torch.ones_like(output)) == 3 * (16 * 4 + 4)


def log_of_sum(*numbers):
    largest = numbers[0]
    for number in numbers[1:]:
        largest = largest.maximum(number)
    if largest.value == -math.inf:
        largest = _plain(largest.tally, -1e300)
    exponentials = [(number - largest).exp() for number in numbers]
    total = exponentials[0]
    for number in exponentials[1:]:
        total = total + number
    return total.log() + largest


def test_ctc():
    """The CTC loss costs as much as the algorithm of Graves et al., 2006, §4.1."""
    steps, labels = 5, [1, 2]
    log_probs = random(steps, 1, 3).log_softmax(-1)
    arithmetic = Arithmetic()
    path = [0, labels[0], 0, labels[1], 0]
    probabilities = arithmetic.numbers(log_probs[:, 0])
    nothing = _plain(arithmetic, -math.inf)
    alpha = [probabilities[0][path[0]], probabilities[0][path[1]], nothing, nothing, nothing]
    for step in range(1, steps):
        before = alpha
        alpha = []
        for state, label in enumerate(path):
            one = before[state - 1] if state >= 1 else nothing
            two = before[state - 2] if state >= 2 and label not in {0, path[state - 2]} else nothing
            alpha.append(log_of_sum(before[state], one, two) + probabilities[step][label])
    loss = -log_of_sum(alpha[-1], alpha[-2])
    lengths = torch.tensor([steps]), torch.tensor([2])
    arguments = (torch.tensor([labels]), *lengths)
    assert loss.value == pytest.approx(functional.ctc_loss(log_probs, *arguments, reduction="sum").item())

    def model(log_probs):
        return torch.ops.aten._ctc_loss.Tensor(log_probs, *arguments)

    assert real_flops(model, log_probs) == arithmetic.count


def test_ctc_backward():
    steps, sequences, classes, longest = 6, 2, 4, 3
    log_probs, targets = random(steps, sequences, classes).log_softmax(-1), torch.tensor([[1, 2, 3], [3, 1, 1]])
    lengths = [steps] * sequences, [longest] * sequences
    states = 2 * longest + 1
    back = 13 * (steps - 1) * states + steps * (9 * states + 6 * classes)
    loss, alpha = torch.ops.aten._ctc_loss(log_probs, targets, *lengths)

    def backward(grad, log_probs, loss, alpha):
        return torch.ops.aten._ctc_loss_backward(grad, log_probs, targets, *lengths, loss, alpha, 0)

    assert real_flops(backward, torch.ones_like(loss), log_probs, loss, alpha) == sequences * back
    # cuDNN computes the loss and the gradient in one kernel.
    forward = 13 * (steps - 1) * states + 9
    fused = (log_probs, targets, *lengths, 0, True, False)
    assert cost_of(torch.ops.aten._cudnn_ctc_loss, fused, (loss, log_probs)) == sequences * (forward + back)
