"""Small models whose costs grow in known ways."""

from __future__ import annotations

import inspect

import torch
from torch import nn


class Attention(nn.Module):
    """Softmax attention with one head: 8·d²·S for four projections and 4·d·S² for two products, for one batch."""

    def __init__(self, width=8):
        super().__init__()
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.project(x).chunk(3, dim=-1)
        return self.out((q @ k.transpose(1, 2)).softmax(-1) @ v)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = Attention()
        self.mlp = nn.Linear(8, 8)

    def forward(self, x):
        return self.mlp(self.attn(x))


#: The text of a module with `Attention` and `Block`, for runs of pytest that tests start.
BLOCKS = "\n\n".join(["import torch\nfrom torch import nn\n", *map(inspect.getsource, (Attention, Block))])


class LinearAttention(Attention):
    """Keys and values are multiplied first: 8·d²·S for the projections, and 4·d²·S for two products."""

    def forward(self, x):
        q, k, v = self.project(x).chunk(3, dim=-1)
        return self.out(q @ (k.transpose(1, 2) @ v))


class Windowed(nn.Module):
    """Attention in windows. The input is padded to whole windows."""

    def __init__(self, window=16, width=8):
        super().__init__()
        self.window = window
        self.attention = Attention(width)

    def forward(self, x):
        padded = nn.functional.pad(x, (0, 0, 0, -x.shape[1] % self.window))
        return self.attention(padded.reshape(-1, self.window, x.shape[2]))


class VisionTransformer(nn.Module):
    def __init__(self, patch=16, width=8):
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.attention = Attention(width)

    def forward(self, image):
        return self.attention(self.patch(image).flatten(2).transpose(1, 2))


class Strided(nn.Module):
    """Convolutions with a stride of 2, padded so that n positions become n/2, rounded up."""

    def __init__(self, strides=5, width=4):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 7, 2, 3)
        self.rest = nn.Sequential(*(nn.Conv2d(width, width, 3, 2, 1) for _ in range(strides - 1)))

    def forward(self, image):
        return self.rest(self.stem(image))


class Cliff(nn.Module):
    """A second layer runs for long inputs only."""

    def __init__(self, longest=1000, width=8):
        super().__init__()
        self.longest = longest
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, x):
        x = self.first(x)
        return self.second(x) if x.shape[1] > self.longest else x


class Truncated(nn.Module):
    """Tokens after the first ones are dropped."""

    def __init__(self, longest=1000, width=8):
        super().__init__()
        self.longest = longest
        self.layer = nn.Linear(width, width)

    def forward(self, x):
        return self.layer(x[:, : self.longest])


class Unsteady(nn.Module):
    """The number of calls of the layer has no relation to the size."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        for _ in range(x.shape[1].bit_count()):
            x = self.layer(x)
        return x


class Routed(nn.Module):
    """Each token goes to the expert that its values choose."""

    def __init__(self, width=8, experts=2):
        super().__init__()
        self.gate = nn.Linear(width, experts)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(experts))

    def forward(self, x):
        x = x.flatten(0, 1)
        chosen = self.gate(x).argmax(-1)
        result = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero()[:, 0]
            result[rows] = expert(x[rows])
        return result


def tokens(width=8):
    """Return a function that makes one batch of tokens."""
    return lambda n: torch.empty(1, n, width)


def image(n):
    return torch.empty(1, 3, n, n, device="meta")
