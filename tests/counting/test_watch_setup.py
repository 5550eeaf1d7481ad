"""The work of a watched block before its first module runs is counted separately from the model's work."""

from __future__ import annotations

import torch
from torch import nn

from pytest_flopsbudget import watch


def test_initialization():
    with watch("test") as seen:
        layer = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            layer.weight.mul_(0.5)
        layer(torch.ones(3, 4)).sum().backward()
    phases = seen.complexity.phases
    assert list(phases) == ["setup", "forward", "backward", "optimizer"]
    # The uniform weights are scaled and shifted by PyTorch's kernel; `mul_` is one operation for each of 8 weights.
    assert phases["setup"].other_flops >= 8
    assert phases["setup"].flops == 0
    assert phases["forward"].flops == 2 * 3 * 4 * 2
    assert sum(phase.total_flops for phase in phases.values()) == seen.complexity.total_flops


def test_products_before_a_model():
    weight = torch.ones(4, 4)
    layer = nn.Linear(4, 2, bias=False)
    with watch("test") as seen:
        weight = weight @ weight
        layer(weight)
    assert seen.complexity.phases["setup"].flops == 2 * 4 * 4 * 4
    assert seen.complexity.phases["forward"].flops == 2 * 4 * 4 * 2
    assert seen.complexity.phases["setup"].activations + seen.complexity.phases["forward"].activations == 16 + 8


def test_without_modules():
    """If a block runs no module, its work is forward work."""
    with watch("test") as seen:
        torch.ones(4, 4) @ torch.ones(4, 4)
    assert seen.complexity.phases == {}


def test_nothing_before_the_model():
    layer, x = nn.Linear(4, 2), torch.ones(1, 4)
    with watch("test") as seen:
        layer(x)
    assert seen.complexity.phases == {}


def test_between_two_models():
    first, second, x = nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False), torch.ones(1, 4)
    with watch("test") as seen:
        second(first(x) * 2)
    assert seen.complexity.phases == {}
    assert seen.complexity.other_flops == 4
