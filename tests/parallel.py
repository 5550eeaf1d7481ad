"""Models that are distributed over ranks, and measurements of one rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from pytest_flopsbudget.counting.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flopsbudget import Complexity

#: Bytes of a float32 number.
FLOAT = 4


def mesh_of(*sizes: int, names: tuple[str, ...] | None = None) -> DeviceMesh:
    """Return a device mesh over all ranks."""
    return init_device_mesh("cpu", sizes, mesh_dim_names=names)


def for_real(model: Callable[..., Any], *args: Any, backward: bool = False) -> Complexity:
    """Measure the model on its data, even if shapes would be enough."""
    return Run(model, args, {}, backward).complexity(ways=("data",))


def messages(complexity: Complexity) -> dict[str, tuple[int, int]]:
    """Return (number of calls, bytes of messages) for each operator that sends messages."""
    return {
        name: (operator.calls, operator.communication)
        for name, operator in complexity.operators.items()
        if operator.value("communication")
    }


class Attention(nn.Module):
    """Attention that computes its number of heads from the width of this rank's projections."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.size = width // heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        batch, length, _ = inputs.shape
        q, k, v = (part(inputs).view(batch, length, -1, self.size).transpose(1, 2) for part in (self.q, self.k, self.v))
        outputs = nn.functional.scaled_dot_product_attention(q, k, v)
        outputs = self.o(outputs.transpose(1, 2).reshape(batch, length, -1))
        assert isinstance(outputs, torch.Tensor)
        return outputs


class Block(nn.Module):
    """A transformer block. Its input and its output have the shape (batch, length, width)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, width, bias=False))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        inputs = inputs + self.attention(self.norm_1(inputs))
        outputs = inputs + self.mlp(self.norm_2(inputs))
        assert isinstance(outputs, torch.Tensor)
        return outputs
