"""Each component of a nested tensor is counted with its own length."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo import for_real

from pytest_flopsbudget import measure

LENGTHS, WIDTH = (3, 5), 8
TOKENS = sum(LENGTHS)
LINEAR = 2 * TOKENS * WIDTH * 16

pytestmark = [
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype"),
    pytest.mark.parametrize("layout", [torch.strided, torch.jagged]),
]


def nested(layout, *sizes):
    return torch.nested.nested_tensor([torch.randn(length, *sizes) for length in LENGTHS], layout=layout)


def test_linear(layout):
    counted = measure(nn.Linear(WIDTH, 16), nested(layout, WIDTH))
    assert (counted.flops, counted.other_flops) == (LINEAR, TOKENS * 16)
    assert not counted.unknown_operators


def test_linear_backward(layout):
    """If a nested input needs no gradient, the backward pass of a linear layer has only one matrix product."""
    # The gradient of the bias is a sum over all n tokens: n - 1 FLOPs for each output.
    counted = measure(nn.Linear(WIDTH, 16), nested(layout, WIDTH), backward=True)
    assert (counted.flops, counted.other_flops) == (2 * LINEAR, TOKENS * 16 + (TOKENS - 1) * 16)


def test_products(layout):
    """In attention, the queries of a component are multiplied only by the keys of the same component."""
    query = nested(layout, 2, 4).transpose(1, 2)
    if layout is torch.strided:
        query = query.contiguous()
    counted = measure(nn.functional.scaled_dot_product_attention, (query, query, query))
    assert counted.flops == 2 * 2 * sum(length**2 for length in LENGTHS) * (4 + 4)
    assert not counted.unknown_operators


def test_elementwise_and_norms(layout):
    """Layer norm, ReLU and addition cost FLOPs only for the elements of a nested tensor."""
    # 7 FLOPs of the norm, 1 of ReLU, 1 of the addition
    model = nn.Sequential(nn.LayerNorm(WIDTH), nn.ReLU())
    counted = measure(lambda x: model(x) + x, nested(layout, WIDTH))
    assert counted.other_flops == (7 + 1 + 1) * TOKENS * WIDTH


def test_made_inside(layout):
    linear = nn.Linear(WIDTH, 16)
    counted = measure(
        lambda a, b: linear(torch.nested.nested_tensor([a, b], layout=layout)),
        tuple(torch.randn(length, WIDTH) for length in LENGTHS),
    )
    assert counted.flops == LINEAR


def test_signature(layout):
    """The signature of a nested tensor has "*" for the dimension that varies."""
    assert for_real(nn.ReLU(), nested(layout, WIDTH)).inputs == (f"float32[2, *, {WIDTH}] of {TOKENS * WIDTH}",)
