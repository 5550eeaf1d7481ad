"""Softmax, its logarithm and their gradients cost as much as loops over their definitions."""

from __future__ import annotations

import pytest
import torch
from counted import Arithmetic, gradient_flops, random, real_flops, tensor_of
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import both

ROWS, COLUMNS = st.integers(1, 4), st.integers(1, 5)


def naive(arithmetic, rows, *, log):
    """Compute softmax, or its logarithm, in loops."""
    result = []
    for row in rows:
        largest = arithmetic.zero()
        largest.value = -float("inf")
        for number in row:
            largest = largest.maximum(number)
        shifted = [number - largest for number in row]
        exponentials = [number.exp() for number in shifted]
        total = arithmetic.total(exponentials)
        if log:
            of_total = torch.tensor(total.value).log().item()  # one logarithm per row is not counted
            result.append([number - of_total for number in shifted])
        else:
            result.append([number / total for number in exponentials])
    return result


def naive_backward(arithmetic, output, grad, *, log):
    result = []
    for ys, gs in zip(output, grad, strict=True):
        if log:
            total = arithmetic.total(gs)
            result.append([g - y.exp() * total for y, g in zip(ys, gs, strict=True)])
        else:
            total = arithmetic.total(g * y for y, g in zip(ys, gs, strict=True))
            result.append([y * (g - total) for y, g in zip(ys, gs, strict=True)])
    return result


@pytest.mark.parametrize("log", [False, True])
@settings(max_examples=10)
@given(rows=ROWS, columns=COLUMNS, dim=st.sampled_from([0, 1, -1]))
def test_softmax(log, rows, columns, dim):
    function = torch.log_softmax if log else torch.softmax
    inputs = random(rows, columns)
    arithmetic = Arithmetic()
    expected = naive(arithmetic, arithmetic.numbers(inputs if dim else inputs.T), log=log)
    output = function(inputs, dim)
    torch.testing.assert_close(tensor_of(expected), output if dim else output.T)
    assert both(lambda x: function(x, dim), inputs).other_flops == arithmetic.count


@pytest.mark.parametrize("log", [False, True])
@settings(max_examples=10)
@given(rows=ROWS, columns=COLUMNS)
def test_softmax_backward(log, rows, columns):
    function = torch.log_softmax if log else torch.softmax
    inputs, grad = random(rows, columns, grad=True), random(rows, columns, seed=1)
    output = function(inputs, -1)
    arithmetic = Arithmetic()
    expected = naive_backward(arithmetic, arithmetic.numbers(output.detach()), arithmetic.numbers(grad), log=log)
    (actual,) = torch.autograd.grad(output, inputs, grad)
    torch.testing.assert_close(tensor_of(expected), actual)
    assert gradient_flops(lambda x: function(x, -1), [inputs], grad) == arithmetic.count


def test_safe_softmax():
    # 5 FLOPs for each of 2 · 3 · 4 elements
    assert both(lambda x: torch._safe_softmax(x, -1), random(2, 3, 4)).other_flops == 120


def test_masked_softmax():
    # Only data tell which elements are masked. Each of 6 elements costs 5 FLOPs, and 4 in the backward pass.
    mask = torch.tensor([[True, False, False], [False, False, True]])
    inputs, grad = random(2, 3), random(2, 3, seed=1)
    assert real_flops(lambda x: torch._masked_softmax(x, mask, -1, 2), inputs) == 30
    assert real_flops(lambda x, g: torch.ops.aten._masked_softmax_backward(g, x, mask, -1), inputs, grad) == 24


@pytest.mark.parametrize("name", ["_sparse_softmax", "_sparse_log_softmax"])
def test_sparse_softmax(name):
    # Each of 3 stored elements costs 5 FLOPs, and 4 in the backward pass.
    inputs = torch.sparse_coo_tensor([[0, 0, 1], [0, 2, 1]], [1.0, 2.0, 3.0], (2, 3), check_invariants=True).coalesce()
    forward, backward = (getattr(torch.ops.aten, operator).default for operator in (name, f"{name}_backward_data"))
    assert real_flops(lambda x: forward(x, 1, False), inputs) == 15
    assert real_flops(lambda x: backward(x, x, 1, x), inputs) == 12


def test_transform_bias_rescale():
    """`_transform_bias_rescale_qkv` adds a bias to queries, keys and values, and scales only the queries."""
    qkv, bias = random(2, 3, 24), random(24)
    assert real_flops(lambda x, b: torch._transform_bias_rescale_qkv(x, b, 2), qkv, bias) == 4 * 2 * 3 * 8
