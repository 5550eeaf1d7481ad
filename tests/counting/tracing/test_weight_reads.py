"""Which bytes of weights a run reads at least."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from pytest_flopsbudget.counting.inputs import Inputs
from pytest_flopsbudget.counting.measure import trace_inputs
from pytest_flopsbudget.counting.tracing.weight_reads import WeightReads

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # raised by packages that torchao loads
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

TOKENS = 6


class Reading:
    """An observer that asks for the bytes of weights that a run reads."""

    def __init__(self, tokens):
        self.tokens = tokens

    def begin(self, tracer, modules):
        tracer.weight_reads = WeightReads(modules, self.tokens)

    def end(self, tracer, output):
        self.read, self.all = tracer.weight_reads.read(), tracer.weight_reads.all()


def read(model, *inputs, tokens=TOKENS):
    """Return the bytes of weights that a run reads, and the bytes of all weights."""
    observer = Reading(tokens)
    trace_inputs(model, Inputs(inputs, {}), observer=observer)
    return observer.read, observer.all


def ids():
    return torch.arange(TOKENS)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 8)

    def forward(self, ids):
        return self.embed(ids) @ self.embed.weight.T


class Experts(nn.Module):
    """Four experts, of which each token takes two. ``form`` says which operators run them."""

    def __init__(self, form):
        super().__init__()
        self.weight, self.form = nn.Parameter(torch.randn(4, 16, 8, dtype=torch.bfloat16)), form

    def forward(self, x):
        chosen = torch.tensor([[0, 1]]).expand(len(x), 2).flatten()
        rows = x.repeat_interleave(2, dim=0)
        if self.form == "index":
            return torch.bmm(rows[:, None], self.weight[chosen].mT)
        if self.form == "index_select":
            return torch.bmm(rows[:, None], self.weight.index_select(0, chosen).mT)
        ends = torch.tensor([TOKENS, 2 * TOKENS, 2 * TOKENS, 2 * TOKENS], dtype=torch.int32)
        return torch._grouped_mm(rows, self.weight.mT, offs=ends)


class Twice(nn.Module):
    """Uses one layer twice, half of another one, and a third one not at all."""

    def __init__(self):
        super().__init__()
        self.used, self.part, self.unused = (nn.Linear(8, 8, bias=False) for _ in range(3))

    def forward(self, x):
        return functional.linear(self.used(self.used(x)), self.part.weight[:4])


X = torch.randn(TOKENS, 8)


def test_a_layer():
    assert read(nn.Linear(8, 16), X) == (4 * (8 * 16 + 16), 4 * (8 * 16 + 16))


def test_a_layer_counts_once_and_only_its_used_part():
    assert read(Twice(), X) == (4 * (64 + 32), 4 * 3 * 64)


def test_an_embedding():
    """All tokens may be equal, so at least one row is read."""
    assert read(nn.Embedding(10, 8), ids()) == (4 * 8, 4 * 80)


def test_an_embedding_that_is_the_output_too():
    assert read(Tied(), ids()) == (4 * 80, 4 * 80)


@pytest.mark.parametrize("form", ["index", "index_select", "grouped"])
def test_experts(form):
    """All tokens may choose the same two of four experts."""
    assert read(Experts(form), X.to(torch.bfloat16)) == (2 * 2 * 16 * 8, 2 * 4 * 16 * 8)


def test_quantized_weights():
    """Of a wrapper tensor, the bytes inside of it count: one byte a number, and a scale for each output."""
    model = nn.Sequential(nn.Linear(64, 32, bias=False)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_(model, Int8WeightOnlyConfig())
    found, everything = read(model, torch.randn(TOKENS, 64))
    assert found == 64 * 32 + 4 * 32 <= everything  # zero points are stored, and symmetric weights do not use them


def test_a_run_on_data():
    class Reads(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum().item() < 1e9 else x

    assert read(Reads(8, 16, bias=False), X) == (4 * 8 * 16, 4 * 8 * 16)
