"""`shape_only` builds a model on the meta device with the shapes and the count of the real model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    GPT2Config,
    GPT2LMHeadModel,
    RegNetConfig,
    RegNetForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    SwinConfig,
    SwinForImageClassification,
)

from pytest_flopsbudget import UsageError, measure, shape_only


def regnet_stages(*, depth=22, w_0=24, w_a=24.48, w_m=2.54, quantum=8, group=16):
    """Return the width of each stage and the number of blocks in each stage of RegNetX-400MF, computed with tensors.

    Source: equations 2 to 4 of Radosavovic et al., "Designing Network Design Spaces", 2020.
    """
    continuous = torch.arange(depth) * w_a + w_0
    capacity = torch.round(torch.log(continuous / w_0) / math.log(w_m))
    widths = (torch.round(torch.divide(w_0 * torch.pow(w_m, capacity), quantum)) * quantum).int().tolist()
    splits = [new != old for new, old in zip([*widths, 0], [0, *widths], strict=True)]
    depths = torch.diff(torch.tensor([depth for depth, starts in enumerate(splits) if starts])).int().tolist()
    return [(width + group // 2) // group * group for width in sorted(set(widths))], depths


class ReadsBack(nn.Module):
    """A model whose constructor reads values from tensors."""

    def __init__(self):
        super().__init__()
        widths, depths = regnet_stages()
        rates = iter(torch.linspace(0, 0.1, sum(depths)).tolist())
        layers = []
        inputs = 3
        for width, depth in zip(widths, depths, strict=True):
            for _ in range(depth):
                layers.append(nn.Sequential(nn.Conv2d(inputs, width, 1), nn.Dropout(next(rates))))
                inputs = width
        self.layers = nn.Sequential(*layers)
        self.register_buffer("scale", torch.tensor([float(widths[-1])]).sqrt())
        self.heads = int(torch.tensor(inputs).sqrt().floor().item())

    def forward(self, x):
        return self.layers(x) * self.scale


def test_constants_are_read_back():
    with shape_only():
        assert regnet_stages() == ([32, 64, 160, 400], [1, 2, 7, 12])
    with pytest.raises(RuntimeError), torch.device("meta"):  # in `torch.device("meta")`, PyTorch cannot read them
        regnet_stages()


def test_such_a_model():
    real = ReadsBack()
    with shape_only():
        model = ReadsBack()
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert model.heads == real.heads == 20
    assert [layer[1].p for layer in model.layers] == [layer[1].p for layer in real.layers]
    image = torch.empty(1, 3, 8, 8)
    assert measure(model, image).modules == measure(real, image).modules


MODELS = {
    "convnext": (ConvNextForImageClassification, ConvNextConfig(depths=[1, 1, 2, 1], drop_path_rate=0.1)),
    "regnet": (RegNetForImageClassification, RegNetConfig(depths=[1, 1, 2, 1])),
    "resnet": (ResNetForImageClassification, ResNetConfig(depths=[1, 1, 2, 1])),
    "swin": (SwinForImageClassification, SwinConfig(depths=[1, 1], num_heads=[3, 6], drop_path_rate=0.1)),
}


@pytest.mark.parametrize("name", MODELS)
def test_architectures(name):
    build, config = MODELS[name]
    real = build(config).eval()
    with shape_only():
        model = build(config).eval()
    described = [[(key, value.shape, value.dtype) for key, value in one.state_dict().items()] for one in (model, real)]
    assert described[0] == described[1]
    image = torch.empty(1, 3, 224, 224)
    assert measure(model, image).modules == measure(real, image).modules


def test_tied_weights():
    with shape_only():
        model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=64))
    assert model.lm_head.weight is model.transformer.wte.weight
    tokens = torch.zeros(1, 4, dtype=torch.long)
    assert measure(model, (tokens,)).params == sum(one.numel() for one in model.parameters())


def test_values_that_only_data_gives():
    """If a constructor reads a random number, an error says to build the model on a real device."""
    with pytest.raises(UsageError, match=r"shape_only\(\): .* needs data\); build it on a real device"), shape_only():
        torch.rand(3).sum().item()


def test_devices_that_are_asked_for():
    """Within `shape_only`, tensors are on the meta device even if the code names another device."""
    with shape_only():
        tensor = torch.empty(3, device="cpu")
        weight = nn.Linear(3, 4, device="cpu").weight
    assert tensor.is_meta
    assert weight.is_meta


def test_random_state():
    state = torch.random.get_rng_state()
    with shape_only():
        nn.Linear(30, 40)
        torch.randn(3)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nothing_lasts():
    with pytest.raises(ZeroDivisionError), shape_only():
        raise ZeroDivisionError
    assert not torch.empty(3).is_meta


INITIALIZERS = {
    "trunc_normal_": nn.init.trunc_normal_,
    "trunc_normal_, few numbers are in the range": lambda weight: nn.init.trunc_normal_(weight, std=10.0, a=-1, b=1),
    "trunc_normal_, the mean is outside of the range": lambda weight: nn.init.trunc_normal_(weight, 5.0, 1.0, -2, 2),
    "orthogonal_": nn.init.orthogonal_,
    "sparse_": lambda weight: nn.init.sparse_(weight, sparsity=0.5),
    "dirac_": lambda weight: nn.init.dirac_(weight[..., None]),
    "kaiming_uniform_": nn.init.kaiming_uniform_,
}


@pytest.mark.filterwarnings("ignore:mean is more than 2 std:UserWarning")
@pytest.mark.parametrize("initialize", INITIALIZERS.values(), ids=INITIALIZERS)
def test_an_initializer_does_nothing(initialize):
    # For a tensor with data, some initializers draw numbers until all are in a range.
    with shape_only():
        model = nn.Linear(4, 6)
        with torch.no_grad():
            initialize(model.weight)
        assert model.weight.device.type == "cpu"
        assert not model.weight.is_meta
    assert measure(model, torch.empty(5, 4)).macs == 5 * 4 * 6
