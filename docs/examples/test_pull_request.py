"""A pull request widens one convolution of ResNet-50. The baseline was measured before this change."""

import os

import models
import pytest
import torch


def resnet50():
    model = models.resnet50()
    if "BEFORE_THE_PULL_REQUEST" not in os.environ:
        block = model.resnet.encoder.stages[3].layers[2]
        block.layer[1].convolution = torch.nn.Conv2d(512, 512, kernel_size=5, padding=2, bias=False)
    return model


@pytest.mark.flops_budget(flops="8.2 GFLOPs", params="25.6M", time={"A100": "440 us"})
def test_resnet50(flops_budget):
    flops_budget(resnet50(), torch.empty(1, 3, 224, 224))
