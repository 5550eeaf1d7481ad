"""The packed weights of PyTorch's quantized layers count as parameters, with the bytes of their storage."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.ao.nn import quantized
from torch.ao.quantization import quantize_dynamic

from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.counting.watch import watch

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="no engine"),
]


def watched(model, x):
    with torch.no_grad(), watch() as seen:
        model(x)
    return seen.complexity


def dynamic(model, dtype=torch.qint8):
    return quantize_dynamic(model.eval(), {nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell}, dtype=dtype)


class Own(nn.Module):
    """A module with a packed weight in an attribute and two packed weights in a list."""

    def __init__(self):
        super().__init__()
        packed = [
            torch.ops.quantized.linear_prepack(torch.quantize_per_tensor(torch.randn(8, 8), 0.1, 0, torch.qint8), None)
            for _ in range(3)
        ]
        self.first, self.others = packed[0], packed[1:]

    def forward(self, x):
        for packed in (self.first, *self.others):
            x = torch.ops.quantized.linear_dynamic(x, packed, reduce_range=True)
        return x


def embedding():
    layer = quantized.Embedding(10, 12)
    layer.eval()
    return layer


def static_convolution():
    return nn.Sequential(quantized.Quantize(0.1, 0, torch.quint8), quantized.Conv2d(3, 4, 3))


#: Name → (model, input, number of weights, number of biases, bytes per weight). A bias has four bytes.
CASES = {
    "linear": (
        lambda: dynamic(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))),
        lambda: torch.randn(2, 64),
        64 * 32 + 32 * 8,
        32 + 8,
        1,
    ),
    "half precision": (
        lambda: dynamic(nn.Sequential(nn.Linear(64, 32)), torch.float16),
        lambda: torch.randn(2, 64),
        64 * 32,
        32,
        2,
    ),
    "no bias": (
        lambda: dynamic(nn.Sequential(nn.Linear(64, 32, bias=False))),
        lambda: torch.randn(2, 64),
        64 * 32,
        0,
        1,
    ),
    # Each of four gates has weights and biases for the input and for the hidden state.
    "LSTM": (
        lambda: dynamic(nn.Sequential(nn.LSTM(16, 32, num_layers=2))),
        lambda: torch.randn(5, 2, 16),
        4 * 32 * (16 + 32) + 4 * 32 * (32 + 32),
        2 * 2 * 4 * 32,
        1,
    ),
    "GRU": (
        lambda: dynamic(nn.Sequential(nn.GRU(16, 32, bidirectional=True))),
        lambda: torch.randn(5, 2, 16),
        2 * 3 * 32 * (16 + 32),
        2 * 2 * 3 * 32,
        1,
    ),
    "embedding": (embedding, lambda: torch.tensor([1, 2]), 10 * 12, 0, 1),
    "convolution": (static_convolution, lambda: torch.randn(1, 3, 8, 8), 3 * 4 * 9, 4, 1),
    "packed by the model": (Own, lambda: torch.randn(2, 8), 3 * 8 * 8, 0, 1),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", [measure, watched])
def test_parameters(name, way):
    make, make_input, weights, biases, size = CASES[name]
    model, x = make(), make_input()
    counted = way(model, x)
    assert counted.params == weights + biases
    assert counted.trainable_params == 0
    assert counted.param_bytes == weights * size + biases * 4
    assert counted.memory_at_peak.parameters == counted.param_bytes
    assert counted.peak_memory >= counted.param_bytes + x.nbytes


def frozen(model, _):
    return torch.jit.freeze(torch.jit.script(model))


#: Name → a function that makes a TorchScript model from a model and its input.
FORMS = {
    "scripted": lambda model, _: torch.jit.script(model),
    "traced": torch.jit.trace,
    "frozen": frozen,
    "trace, frozen": lambda model, x: torch.jit.freeze(torch.jit.trace(model, x)),
    "inside of a module": lambda model, x: nn.Sequential(frozen(model, x)),
}


@pytest.mark.parametrize("name", [name for name in CASES if name != "packed by the model"])
@pytest.mark.parametrize("form", FORMS)
def test_torchscript(name, form):
    """TorchScript holds packed weights as attributes of modules, or as constants of a graph after freezing."""
    make, make_input, weights, biases, size = CASES[name]
    x = make_input()
    model = FORMS[form](make().eval(), x)
    for counted in (measure(model, x), watched(model, x)):
        assert (counted.params, counted.param_bytes) == (weights + biases, weights * size + biases * 4)
        assert counted.memory_at_peak.parameters == counted.param_bytes


class Scriptable(Own):
    def forward(self, x):
        x = torch.ops.quantized.linear_dynamic(x, self.first, reduce_range=True)
        for packed in self.others:
            x = torch.ops.quantized.linear_dynamic(x, packed, reduce_range=True)
        return x


def test_torchscript_with_a_list():
    model, x = torch.jit.script(Scriptable()), torch.randn(2, 8)
    assert [measure(model, x).params, watched(model, x).params] == [3 * 8 * 8] * 2


def test_torchscript_shares():
    """If two parts of a scripted model hold the same packed weight, it counts once."""
    packed = dynamic(nn.Sequential(nn.Linear(8, 8)))[0]
    model, x = torch.jit.script(nn.Sequential(packed, nn.Sequential(packed))), torch.randn(1, 8)
    assert [measure(model, x).params, watched(model, x).params] == [72] * 2
    assert {path: part.params for path, part in measure(model, x).modules.items()} == {
        **dict.fromkeys(("", "0", "0._packed_params", "1", "1.0", "1.0._packed_params"), 72)
    }


def test_where_they_are():
    """A packed weight is counted in the module that holds it, and in all parents of that module."""
    # If a model contains the module twice, the packed weight counts once.
    layer = nn.Linear(8, 8)
    counted = measure(dynamic(nn.Sequential(layer, nn.Linear(8, 4))), torch.randn(1, 8))
    assert {path: module.params for path, module in counted.modules.items()} == {
        "": 72 + 36,
        "0": 72,
        "0._packed_params": 72,
        "1": 36,
        "1._packed_params": 36,
    }
    packed = dynamic(nn.Sequential(layer))[0]
    assert measure(nn.Sequential(packed, nn.Sequential(packed)), torch.randn(1, 8)).params == 72


def test_unchanged():
    model, x = dynamic(nn.Sequential(nn.Linear(8, 8))), torch.randn(2, 8)
    before, held = model(x), model[0]._packed_params._packed_params
    measure(model, x)
    assert model[0]._packed_params._packed_params is held
    assert torch.equal(model(x), before)
