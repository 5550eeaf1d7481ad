"""Models of square linear layers, and helpers that read the metrics of their modules."""

import torch
from torch import nn

X = torch.randn(3, 4)
#: FLOPs of a square linear layer with the input `X`.
SQUARE = 2 * 3 * 4 * 4


def square():
    return nn.Linear(4, 4, bias=False)


class Calls(nn.Module):
    """A module with two layers that passes itself and its input to a given function."""

    def __init__(self, function):
        super().__init__()
        self.first, self.second = square(), nn.Sequential(square())
        self.function = [function]

    def forward(self, x):
        return self.function[0](self, x)


def flops_of(counted):
    return {path: module.flops for path, module in counted.modules.items()}


def calls_of(counted):
    return {path: module.calls for path, module in counted.modules.items()}
