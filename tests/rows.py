"""A model whose FLOPs show how many rows it read."""

from __future__ import annotations

import torch
from torch import nn

from pytest_flopsbudget import measure

#: The input of `TakesRows`: ten rows of ones.
ONES = torch.ones(10, 8)
#: FLOPs of a linear layer from 8 to 8, for each row.
A_ROW = 2 * 8 * 8


class TakesRows(nn.Module):
    """A model that applies a linear layer to the first ``read(self, x)`` rows of its input."""

    def __init__(self, read, **attributes):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.read = read
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.layer(x[: int(self.read(self, x))])


def rows_taken(read, x=ONES, **attributes):
    """Measure `TakesRows`. Return (number of rows that the linear layer got, "shapes" or "real")."""
    result = measure(TakesRows(read, **attributes), x)
    return result.flops // A_ROW, result.execution
