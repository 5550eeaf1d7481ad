"""Activations agree with fvcore's count and with numbers that the authors of RegNet published."""

from __future__ import annotations

import warnings

import pytest
import torch
import transformers as hf
from torch import nn

from pytest_flopsbudget.counting.measure import measure

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # fvcore compiles a loss with TorchScript on import, which warns
    from fvcore.nn import ActivationCountAnalysis

X = torch.empty(1, 3, 224, 224)

#: Model → (widths, depths, group width; then the published figures: GMACs, parameters in millions, activations in
#: millions). The published table calls GMACs "FLOPs". Sources: Radosavovic et al., "Designing Network Design Spaces",
#: 2020, figures 15 and 16; for activations, the table "RegNetX Models" of MODEL_ZOO.md in facebookresearch/pycls.
PUBLISHED = {
    "RegNetX-200MF": ([24, 56, 152, 368], [1, 1, 4, 7], 8, 0.2, 2.7, 2.2),
    "RegNetX-400MF": ([32, 64, 160, 384], [1, 2, 7, 12], 16, 0.4, 5.2, 3.1),
    "RegNetX-600MF": ([48, 96, 240, 528], [1, 3, 5, 7], 24, 0.6, 6.2, 4.0),
    "RegNetX-800MF": ([64, 128, 288, 672], [1, 3, 7, 5], 16, 0.8, 7.3, 5.1),
    "RegNetX-1.6GF": ([72, 168, 408, 912], [2, 4, 10, 2], 24, 1.6, 9.2, 7.9),
    "RegNetX-3.2GF": ([96, 192, 432, 1008], [2, 6, 15, 2], 48, 3.2, 15.3, 11.4),
    "RegNetX-4.0GF": ([80, 240, 560, 1360], [2, 5, 14, 2], 40, 4.0, 22.1, 12.2),
    "RegNetX-6.4GF": ([168, 392, 784, 1624], [2, 4, 10, 1], 56, 6.5, 26.2, 16.4),
    "RegNetX-8.0GF": ([80, 240, 720, 1920], [2, 5, 15, 1], 120, 8.0, 39.6, 14.1),
    "RegNetX-12GF": ([224, 448, 896, 2240], [2, 5, 11, 1], 112, 12.1, 46.1, 21.4),
    "RegNetX-16GF": ([256, 512, 896, 2048], [2, 6, 13, 1], 128, 15.9, 54.3, 25.5),
    "RegNetX-32GF": ([336, 672, 1344, 2520], [2, 7, 13, 1], 168, 31.7, 107.8, 36.3),
}


def regnet(widths, depths, group):
    config = hf.RegNetConfig(
        embedding_size=32, hidden_sizes=widths, depths=depths, groups_width=group, layer_type="x", num_labels=1000
    )
    with torch.device("meta"):
        return hf.RegNetForImageClassification(config).eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published(name):
    *built, macs, params, activations = PUBLISHED[name]
    counted = measure(regnet(*built), X)
    found = (counted.macs / 1e9, counted.params / 1e6, counted.activations / 1e6)
    assert (macs, params, activations) == tuple(round(value, 1) for value in found)


MODELS = {
    "ResNet-50": lambda: hf.ResNetForImageClassification(hf.ResNetConfig(num_labels=1000)),
    "MobileNetV2": lambda: hf.MobileNetV2ForImageClassification(hf.MobileNetV2Config(num_labels=1000)),
    "ConvNeXt-T": lambda: hf.ConvNextForImageClassification(hf.ConvNextConfig(num_labels=1000)),
    "RegNetX-400MF": lambda: regnet_on_cpu(*PUBLISHED["RegNetX-400MF"][:3]),
    "a transposed one": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(4, 2, 1)
    ),
}


def regnet_on_cpu(widths, depths, group):
    config = hf.RegNetConfig(hidden_sizes=widths, depths=depths, groups_width=group, layer_type="x", num_labels=1000)
    return hf.RegNetForImageClassification(config)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_as_fvcore_counts(name):
    model, x = MODELS[name]().eval(), torch.randn(1, 3, 64, 64)
    theirs = (
        ActivationCountAnalysis(model, x)
        .unsupported_ops_warnings(enabled=False)
        .uncalled_modules_warnings(enabled=False)
    )
    assert measure(model, x).activations == theirs.total()
