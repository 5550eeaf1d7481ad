"""Distances, cross products and histograms cost as much as loops over single numbers."""

from __future__ import annotations

import math

import pytest
import torch
from counted import Arithmetic, cost_of, gradient_flops, greatest, plain_sum, random, real_flops, tensor_of
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import both

POWERS = [0.0, 1.0, 2.0, 3.0, math.inf]


def distance(p, xs, ys):
    differences = [x - y for x, y in zip(xs, ys, strict=True)]
    if p == 0:
        return plain_sum([_one(d, not d.equals(0)) for d in differences])
    if p == 1:
        return plain_sum([abs(d) for d in differences])
    if p == 2:
        return plain_sum([d * d for d in differences]).sqrt()
    if p == math.inf:
        return greatest([abs(d) for d in differences])
    return plain_sum([abs(d) ** p for d in differences]) ** (1 / p)


def _one(like, truth):
    number = like.tally.zero()
    number.value = float(truth)
    return number


def slopes(p, xs, ys, grad, length):
    """Return the gradient with respect to ``xs`` of the distance ``length``, or None if ``p`` is 0."""
    if p == 0:
        return None
    if p == 2:
        factor = grad / length
        return [(x - y) * factor for x, y in zip(xs, ys, strict=True)]
    if p not in {1, math.inf}:
        factor = grad / grad.tally.note(length ** (p - 1))
    result = []
    for x, y in zip(xs, ys, strict=True):
        d = x - y
        if p == 1:
            result.append(d.sign() * grad)
        elif p == math.inf:
            is_largest = abs(d).equals(length)
            slope = d.sign() * grad
            slope.value *= is_largest
            result.append(slope)
        else:
            result.append(d.sign() * abs(d) ** (p - 1) * factor)
    return result


@pytest.mark.parametrize("p", POWERS)
@settings(max_examples=8)
@given(left=st.integers(1, 4), right=st.integers(1, 4), components=st.integers(1, 4))
def test_cdist(p, left, right, components):
    x, y, grad = random(left, components, grad=True), random(right, components, seed=1), random(left, right, seed=2)
    forward, backward = Arithmetic(), Arithmetic()
    xs, ys = forward.numbers(x.detach()), forward.numbers(y)
    expected = [[distance(p, one, other) for other in ys] for one in xs]
    output = torch.cdist(x, y, p)
    torch.testing.assert_close(tensor_of(expected), output)
    assert both(lambda x, y: torch.cdist(x, y, p), (x.detach(), y)).other_flops == forward.count
    gradient = [[backward.zero() for _ in range(components)] for _ in range(left)]
    xs, ys, grads = (backward.numbers(item) for item in (x.detach(), y, grad))
    for i in range(left):
        for j in range(right):
            parts = slopes(p, xs[i], ys[j], grads[i][j], expected[i][j].value)
            if parts is not None:
                gradient[i] = [total + part for total, part in zip(gradient[i], parts, strict=True)]
    (actual,) = torch.autograd.grad(output, x, grad)
    torch.testing.assert_close(tensor_of(gradient), actual)
    assert gradient_flops(lambda x, y: torch.cdist(x, y, p), [x, y], grad) == backward.count


@pytest.mark.parametrize("p", POWERS)
@settings(max_examples=8)
@given(points=st.integers(2, 5), components=st.integers(1, 4))
def test_pdist(p, points, components):
    x = random(points, components, grad=True)
    forward, backward = Arithmetic(), Arithmetic()
    pairs = [(i, j) for i in range(points) for j in range(i + 1, points)]
    xs = forward.numbers(x.detach())
    expected = [distance(p, xs[i], xs[j]) for i, j in pairs]
    output = torch.pdist(x, p)
    torch.testing.assert_close(tensor_of(expected), output)
    assert both(lambda x: torch.pdist(x, p), x.detach()).other_flops == forward.count
    grad = random(len(pairs), seed=2)
    gradient = [[backward.zero() for _ in range(components)] for _ in range(points)]
    xs, grads = backward.numbers(x.detach()), backward.numbers(grad)
    for (i, j), g, length in zip(pairs, grads, expected, strict=True):
        parts = slopes(p, xs[i], xs[j], g, length.value)
        if parts is not None:
            gradient[i] = [total + part for total, part in zip(gradient[i], parts, strict=True)]
            gradient[j] = [total - part for total, part in zip(gradient[j], parts, strict=True)]
    (actual,) = torch.autograd.grad(output, x, grad)
    torch.testing.assert_close(tensor_of(gradient), actual)
    assert gradient_flops(lambda x: torch.pdist(x, p), [x], grad) == backward.count


def test_many_points():
    """`cdist` costs the operations of its definition, although PyTorch uses a matrix product for many points."""
    # 3 FLOPs for each component of each pair
    result = both(torch.cdist, (random(30, 4), random(7, 4)))
    assert (result.flops, result.other_flops) == (0, 30 * 7 * 3 * 4)


@pytest.mark.parametrize("p", POWERS)
def test_dist(p):
    """`dist` broadcasts its two tensors and costs as much as a loop over their elements."""
    x, y = random(2, 3), random(3, seed=1)
    arithmetic = Arithmetic()
    expected = distance(p, arithmetic.numbers(x.flatten()), arithmetic.numbers(y.expand(2, 3).flatten()))
    assert expected.value == pytest.approx(torch.dist(x, y, p).item())
    assert both(lambda x, y: torch.dist(x, y, p), (x, y)).other_flops == arithmetic.count


def test_empty_vectors():
    assert both(torch.cdist, (random(2, 0), random(3, 0))).other_flops == 0


def test_cross():
    x, y = random(4, 3), random(4, 3, seed=1)
    arithmetic = Arithmetic()
    expected = [
        [a[i - 2] * b[i - 1] - a[i - 1] * b[i - 2] for i in range(3)]
        for a, b in zip(arithmetic.numbers(x), arithmetic.numbers(y), strict=True)
    ]
    torch.testing.assert_close(tensor_of(expected), torch.linalg.cross(x, y))
    assert both(torch.linalg.cross, (x, y)).other_flops == arithmetic.count


def binned(arithmetic, values, low, high, bins):
    """Return the number of values in each of ``bins`` equal bins between ``low`` and ``high``."""
    counts = [arithmetic.zero() for _ in range(bins)]
    for value in values:
        outside = [value.less_than(low), not value.less_than(high) and value.value != high]
        if not any(outside):
            place = (value - low) / ((high - low) / bins)
            place = arithmetic.note(math.floor(place.value))
            index = min(place.value, bins - 1)
            counts[index] = counts[index] + 1
    return counts


def test_histc():
    values = random(40)
    low, high = values.min().item(), values.max().item()
    arithmetic = Arithmetic()
    numbers = arithmetic.numbers(values)
    counts = binned(arithmetic, numbers, low, high, 5)
    torch.testing.assert_close(tensor_of(counts), torch.histc(values, 5))
    in_range = arithmetic.count
    plain = Arithmetic()
    greatest(plain.numbers(values))
    assert both(lambda x: torch.histc(x, 5, low, high), values).other_flops == in_range
    # Without a range, the operator first searches for the minimum and the maximum.
    assert both(lambda x: torch.histc(x, 5), values).other_flops == in_range + 2 * plain.count


def test_histogram():
    # Each of 10 values costs 6 FLOPs for its bin. Finding the range costs 2 · 9 comparisons. A density costs 3 sums,
    # 4 widths, and 2 quotients for each of 4 bins.
    values, weight = random(10), random(10).abs()
    assert both(lambda x: torch.histogram(x, 4), values).other_flops == 60 + 18
    assert both(lambda x: torch.histogram(x, 4, range=(-1.0, 1.0)), values).other_flops == 60
    density = both(lambda x, w: torch.histogram(x, 4, range=(-3.0, 3.0), weight=w, density=True), (values, weight))
    assert density.other_flops == 60 + 3 + 4 + 8


@pytest.mark.parametrize(("edges", "comparisons"), [(2, 2), (3, 2), (4, 3), (8, 4)])
def test_histogram_by_edges(edges, comparisons):
    """Each value of a histogram costs a binary search among the edges of the bins."""
    # The addition to the bin costs one more FLOP for each value.
    assert comparisons == math.ceil(math.log2(edges + 1))
    bins = torch.linspace(-5, 5, edges, dtype=torch.float64)
    assert both(torch.histogram, (random(10), bins)).other_flops == 10 * (comparisons + 1)


def test_histogram_in_several_dimensions():
    # Each of 10 points costs 5 FLOPs for each of 2 coordinates, and 1 addition. Finding the range costs 2 · 9 for each
    # coordinate, and PyTorch does it twice: for the edges and for the counts.
    points = random(10, 2)
    assert both(lambda x: torch.histogramdd(x, [3, 4], range=[-5.0, 5.0, -5.0, 5.0]), points).other_flops == 110
    assert both(lambda x: torch.histogramdd(x, [3, 4]), points).other_flops == 110 + 2 * 36
    edges = [torch.linspace(-5, 5, 4, dtype=torch.float64), torch.linspace(-5, 5, 5, dtype=torch.float64)]
    # 3 comparisons along each dimension. The density costs 11 - 6 = 5 sums, 5 widths, and 3 quotients for each of 6
    # cells.
    by_edges = torch.ops.aten._histogramdd_from_bin_tensors.default
    assert both(lambda x, a, b: by_edges(x, [a, b]), (points, *edges)).other_flops == 10 * 7
    dense = both(lambda x, a, b: by_edges(x, [a[:3], b[:4]], density=True), (points, *edges))
    assert dense.other_flops == 10 * (2 + 3 + 1) + 5 + 5 + 18


def test_bincount():
    """`bincount` costs one addition for each value if there are weights, and nothing without weights."""
    values = torch.tensor([0, 2, 2, 1])
    assert real_flops(torch.bincount, values) == 0
    assert real_flops(torch.bincount, values, random(4)) == 4


def test_integers_are_free():
    assert cost_of(torch.ops.aten.histc, (torch.ones(4, dtype=torch.int64),), torch.ones(100)) == 0
