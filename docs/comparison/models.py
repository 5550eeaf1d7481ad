"""Small models that some counters count wrongly. They have no biases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its name everywhere
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable


class Calls(nn.Module):
    """A module that calls ``function``. Its unused parameter shows counters on which device the module is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, *operands: torch.Tensor) -> Any:
        return self.function(*operands)


class Product(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, *operands: torch.Tensor) -> Any:
        return getattr(torch, self.name)(*operands)


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(query, key, value)


def attention_by_keywords(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(query=query, key=key, value=value)


def grouped_query_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(query, key, value, enable_gqa=True)


def flexible_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention(query, key, value)


class SelfAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)  # without biases, it is not fused

    def forward(self, x: torch.Tensor) -> Any:
        return self.attention(x, x, x)[0]


class ClassToken(nn.Module):
    """A model that passes a view of a parameter to a layer, as many vision transformers do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.layer = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(self.token.expand(len(x), 1, -1))


class Checkpointed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.region, self.after = linear(width), two_linear(width), linear(width)

    def forward(self, x: torch.Tensor) -> Any:
        # The reentrant kind recomputes the whole region; the other kind skips what the backward pass does not need.
        return self.after(checkpoint(self.region, self.before(x), use_reentrant=True))


class GradientInside(nn.Module):
    """A model that returns the gradient of its layer's summed output with respect to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = linear(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.layer(x).sum(), x)[0]


def linear(width: int) -> nn.Module:
    return nn.Linear(width, width, bias=False)


def two_linear(width: int) -> nn.Module:
    return nn.Sequential(linear(width), linear(width))


def used_twice(width: int) -> nn.Module:
    layer = linear(width)
    return nn.Sequential(nn.Sequential(layer), nn.Sequential(layer))


def compiled(width: int) -> Any:
    # This backend needs no C++ compiler.
    return torch.compile(two_linear(width), backend="eager")


def scripted(width: int) -> nn.Module:
    return torch.jit.script(two_linear(width))


def encoder(width: int, hidden: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, 4, hidden, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


def lstm(inputs: int, hidden: int) -> nn.Module:
    return nn.LSTM(inputs, hidden, bias=False, batch_first=True)


def bilinear(first: int, second: int, outputs: int) -> nn.Module:
    return nn.Bilinear(first, second, outputs, bias=False)


def grouped(inputs: int, outputs: int, groups: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups, bias=False)


def transposed(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, bias=False)


def grouped_product(tokens: torch.Tensor, experts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    return torch._grouped_mm(tokens, experts, ends)  # noqa: SLF001 -- the operator of mixtures of experts


def grouped_operands(tokens: int, experts: int, width: int) -> tuple[torch.Tensor, ...]:
    """Return the tokens sorted by expert, a matrix for each expert, and the index after each expert's last token."""
    ends = torch.arange(1, experts + 1, dtype=torch.int32) * (tokens // experts)
    return (
        torch.ones(tokens, width, dtype=torch.bfloat16),
        torch.ones(experts, width, width, dtype=torch.bfloat16),
        ends,
    )
