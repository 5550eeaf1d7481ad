"""Models of square linear layers, and helpers that read the metrics of their modules."""

import torch
from torch import nn

X = torch.randn(3, 4)
#: FLOPs of a square linear layer with the input `X`.
SQUARE = 2 * 3 * 4 * 4


def square():
    return nn.Linear(4, 4, bias=False)


def flops_of(counted):
    return {path: module.flops for path, module in counted.modules.items()}


def calls_of(counted):
    return {path: module.calls for path, module in counted.modules.items()}
