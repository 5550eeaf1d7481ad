"""Models whose weights torchao quantized."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from zoo import LAUNCHES, both

from pytest_flopsbudget.counting.measure import measure

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # raised by packages that torchao loads
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    # torchao 0.15 and 0.16 warn about the default version of one of their own configurations.
    "ignore:Config Deprecation:UserWarning",
)

ROWS = 3
X = torch.randn(ROWS, 64)
WEIGHTS, OUTPUTS = 64 * 32 + 32 * 16, 32 + 16
FLOPS = 2 * ROWS * WEIGHTS
#: Other FLOPs: biases and ReLU.
OTHER = ROWS * (OUTPUTS + 32)

each_way = pytest.mark.parametrize("config", [Int8WeightOnlyConfig, Int8DynamicActivationInt8WeightConfig])


def quantized(config):
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16)).eval()
    quantize_(model, config())
    return model


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_weights_alone(mode):
    """If only weights are quantized, each output element of a product costs one more FLOP."""
    # This FLOP applies the scale of the output's channel.
    model = quantized(Int8WeightOnlyConfig)
    with mode():
        counted = both(model, X)
    assert (counted.flops, counted.other_flops) == (FLOPS, OTHER + ROWS * OUTPUTS)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_activations_too(mode):
    """If activations are quantized too, products still cost as much as without quantization."""
    # Each row of the activations also costs the search for its minimum and maximum.
    model = quantized(Int8DynamicActivationInt8WeightConfig)
    with mode():
        # On meta, scales and zero points have other dtypes than on the CPU, which adds casts.
        counted = both(model, X, without=LAUNCHES)
    assert counted.flops == FLOPS
    for extreme in ("amin", "amax"):
        assert counted.operators[f"aten.{extreme}"].other_flops == ROWS * (64 - 1 + 32 - 1)
    assert counted.other_flops > OTHER


@each_way
def test_stored(config):
    # One byte for each quantized weight; scales and zero points add bytes. Zero points have 1 or 8 bytes.
    model = quantized(config)
    counted = measure(model, X)
    assert counted.params == WEIGHTS + OUTPUTS
    scales_and_biases = 4 * 2 * OUTPUTS
    assert WEIGHTS + scales_and_biases <= counted.param_bytes <= WEIGHTS + scales_and_biases + 8 * OUTPUTS


@each_way
def test_on_meta(config):
    assert measure(copy.deepcopy(quantized(config)).to("meta"), X) == measure(quantized(config), X)


@each_way
def test_it_stays_as_it_was(config):
    model = quantized(config)
    before = model(X)
    both(model, X, without=LAUNCHES)
    assert torch.equal(model(X), before)
    assert type(model[0].weight) is type(quantized(config)[0].weight)
