"""Models whose baselines must pass under every supported version of PyTorch, whichever version wrote the baselines."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

TOKENS = torch.empty(2, 6, 8)
IMAGE = torch.empty(2, 4, 12, 12)
IDS = torch.zeros(2, 6, dtype=torch.long)

MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 8)), TOKENS),
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 3)),
        IMAGE,
    ),
    "depthwise": (lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.GroupNorm(2, 8), nn.MaxPool2d(2)), IMAGE),
    "rnn": (lambda: nn.RNN(8, 5, num_layers=2, batch_first=True), TOKENS),
    "lstm": (lambda: nn.LSTM(8, 5, bidirectional=True, batch_first=True), TOKENS),
    "gru": (lambda: nn.GRU(8, 5, batch_first=True), TOKENS),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), TOKENS),
    "embedding": (lambda: nn.Sequential(nn.Embedding(10, 8), nn.RMSNorm(8)), IDS),
}


class Attention(nn.Module):
    """Attention without a batch: some versions have a fused kernel for it, others do not."""

    def forward(self, heads: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(heads, heads, heads)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("name", MODELS)
def test_model(flops_budget, name, backward):
    build, example = MODELS[name]
    flops_budget(build(), example, backward=backward)


@pytest.mark.parametrize("shape", [(2, 6, 8), (1, 2, 6, 8)], ids=["without batch", "with batch"])
def test_attention(flops_budget, shape):
    flops_budget(Attention(), torch.empty(shape))


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_training_step(flops_budget, kind):
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.1)

    def step(tokens):
        optimizer.zero_grad()
        model(tokens).square().mean().backward()
        optimizer.step()

    flops_budget(step, torch.ones(2, 6, 8))


@pytest.mark.flops_budget
def test_watched():
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 4, 12, 12)).sum().backward()
    optimizer.step()


def test_scripted(flops_budget):
    """PyTorch 2.14 and newer warn about TorchScript. The plugin itself must not cause a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about this test's own call
        scripted = torch.jit.script(nn.Sequential(nn.Linear(8, 16), nn.ReLU()))
    flops_budget(scripted, TOKENS)
