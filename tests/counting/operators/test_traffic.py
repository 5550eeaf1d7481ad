"""Memory traffic and launches equal values that are derived by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from zoo import for_real, on_shapes

F32, I64, BOOL = 4, 8, 1


def moved(function, *args):
    """Return (bytes, launches) of a function, and check that both are the same on shapes and on data."""
    shapes, real = on_shapes(function, args), for_real(function, args)
    assert shapes.value("memory_traffic") == real.value("memory_traffic")
    assert shapes.launches == real.launches
    return shapes.value("memory_traffic"), shapes.launches


@given(*[st.integers(1, 40)] * 4)
@settings(max_examples=30, deadline=None)
def test_a_pointwise_convolution_moves_what_the_published_form_says(height, width, inputs, outputs):
    """A 1x1 convolution moves input, weight and output once (N. Ma et al., "ShuffleNet V2", 2018, equation 1)."""
    model = nn.Conv2d(inputs, outputs, 1, bias=False)
    expected = height * width * (inputs + outputs) + inputs * outputs
    assert on_shapes(model, torch.empty(1, inputs, height, width)).value("memory_traffic") == expected * F32


X, Y = torch.randn(8, 16), torch.randn(8, 16)
ROW = torch.randn(16)
N = 8 * 16
INDICES = torch.tensor([0, 3, 3, 7])
IMAGE = torch.randn(2, 3, 8, 8)
PIXELS = 2 * 3 * 8 * 8

CASES = {
    "reads and writes": (torch.relu, (X,), 2 * N * F32, 1),
    "two operands": (torch.add, (X, Y), 3 * N * F32, 1),
    "an operand handed over twice": (lambda x: x * x, (X,), 3 * N * F32, 1),
    "an operand that is spread out": (torch.add, (X, ROW), (2 * N + 16) * F32, 1),
    "an expanded operand": (lambda x, row: x + row.expand(8, 16), (X, ROW), (2 * N + 16) * F32, 1),
    "in place": (lambda x: torch.ones_like(x).mul_(2.0), (X,), (N + 2 * N) * F32, 2),
    "views": (lambda x: x.view(16, 8).t()[2:].unsqueeze(0), (X,), 0, 0),
    "a view that may be none": (lambda x: x.reshape(4, 32), (X,), 0, 0),
    "a copy where a view is none": (lambda x: x.t().reshape(N), (X,), 2 * N * F32, 1),
    "a slice": (lambda x: x[:, :4].clone(), (X,), 2 * 8 * 4 * F32, 1),
    "detached": (lambda x: x.detach(), (X,), 0, 0),
    "room": (torch.empty_like, (X,), 0, 0),
    "zeros": (torch.zeros_like, (X,), N * F32, 1),
    "cast": (lambda x: x.to(torch.bfloat16), (X,), N * (F32 + 2), 1),
    "joined": (lambda x, y: torch.cat([x, y]), (X, Y), 4 * N * F32, 1),
    "copied into": (lambda x, y: torch.empty_like(x).copy_(y), (X, Y), 2 * N * F32, 1),
    "filled": (lambda x: torch.empty_like(x).fill_(1.0), (X,), N * F32, 1),
    "random": (lambda x: torch.empty_like(x).normal_(), (X,), N * F32, 1),
    "a product": (lambda x, y: x @ y.t(), (X, Y), (2 * N + 64) * F32, 1),
    "a sum": (lambda x: x.sum(1), (X,), (N + 8) * F32, 1),
    "rows": (lambda x, i: functional.embedding(i, x), (X, INDICES), 4 * I64 + 2 * 4 * 16 * F32, 1),
    "selected": (lambda x, i: x.index_select(0, i), (X, INDICES), 4 * I64 + 2 * 4 * 16 * F32, 1),
    "indexed": (lambda x, i: x[i], (X, INDICES), 4 * I64 + 2 * 4 * 16 * F32, 1),
    "gathered": (lambda x, i: x.gather(0, i[:, None]), (X, INDICES), 4 * I64 + 2 * 4 * F32, 1),
    "put": (lambda x, y, i: torch.empty_like(x).index_put_((i,), y[:4]), (X, Y, INDICES), 4 * I64 + 2 * 64 * F32, 1),
    "put and added": (
        lambda x, y, i: torch.empty_like(x).index_put_((i,), y[:4], accumulate=True),
        (X, Y, INDICES),
        4 * I64 + 3 * 64 * F32,
        1,
    ),
    "one value put": (lambda x, i: torch.empty_like(x).index_fill_(0, i, 0.0), (X, INDICES), 4 * I64 + 64 * F32, 1),
    "added to rows": (
        lambda x, y, i: torch.empty_like(x).index_add_(0, i, y[:4]),
        (X, Y, INDICES),
        4 * I64 + 3 * 64 * F32,
        1,
    ),
    "scattered": (
        lambda x, y, i: torch.empty_like(x).scatter_(0, i[:, None], y[:4, :1]),
        (X, Y, INDICES),
        4 * I64 + 2 * 4 * F32,
        1,
    ),
    "masked": (lambda x, y: x.masked_fill(y > 0, 0.0), (X, Y), (N * F32 + N * BOOL) + (2 * N * F32 + N * BOOL), 2),
    "pooled with indices": (
        lambda x: functional.max_pool2d(x, 2, return_indices=True),
        (IMAGE,),
        PIXELS * F32 + PIXELS // 4 * (F32 + I64),
        1,
    ),
    "batch norm, in inference": (
        lambda x: functional.batch_norm(x, torch.zeros(3), torch.ones(3)),
        (IMAGE,),
        2 * PIXELS * F32 + 2 * 3 * F32 + 2 * 3 * F32,
        3,
    ),
    "batch norm, in training": (
        lambda x: functional.batch_norm(x, torch.zeros(3), torch.ones(3), training=True),
        (IMAGE,),
        # Two statistics are made. Both are read and written. The mean and deviation of the batch are written.
        2 * PIXELS * F32 + 2 * 3 * F32 + 4 * 3 * F32 + 2 * 3 * F32,
        3,
    ),
    "layer norm": (lambda x: functional.layer_norm(x, (16,)), (X,), (2 * N + 2 * 8) * F32, 1),
    "nothing to do": (lambda x: x[:0] + 1.0, (X,), 0, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_bytes_and_launches(case):
    """Each operand is read once, each output is written once, and views are free."""
    function, args, expected, launches = CASES[case]
    assert moved(function, *args) == (expected, launches)


def test_sparse_operands_are_what_they_store():
    dense = torch.zeros(6, 5)
    dense[0, 1] = dense[4, 2] = 1.0
    sparse, right = dense.to_sparse(), torch.randn(5, 3)
    stored = 2 * 2 * I64 + 2 * F32
    assert for_real(torch.sparse.mm, (sparse, right)).operators["aten._sparse_addmm"].value("memory_traffic") == (
        stored + (15 + 18 + 18) * F32  # the operator also reads the tensor that it adds, although the factor is 0
    )


def test_a_layout_that_nobody_looks_into():
    """If a tensor is in oneDNN's memory layout, its traffic is the bytes of its elements."""
    assert for_real(lambda x: x.to_mkldnn(), (X,)).value("memory_traffic") == 2 * N * F32
    assert for_real(lambda x: x.to_mkldnn(), (X,)).peak_memory == 2 * N * F32


def test_a_mixture_in_bfloat16_halves_the_bytes():
    model, x = nn.Linear(16, 16, bias=False), torch.randn(8, 16)
    full = on_shapes(model, x).value("memory_traffic")
    half = on_shapes(model.bfloat16(), x.bfloat16()).value("memory_traffic")
    assert full == (2 * N + 256) * F32
    assert half * 2 == full
