"""Under autocast, outputs on shapes have the same dtypes as on data."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its name everywhere
from zoo import both, for_real, on_shapes

from pytest_flopsbudget.counting.measure import measure

X, IMAGE, TOKENS = torch.randn(3, 4), torch.randn(1, 3, 8, 8), torch.randn(2, 5, 8)
LINEAR = 2 * 3 * 4 * 5


class Casts(nn.Module):
    """A model that calls a function under autocast and records the dtype of the output."""

    def __init__(self, layer, function=lambda layer, x: layer(x), dtype=torch.bfloat16, device="cpu"):
        super().__init__()
        self.layer, self.function = layer, function
        self.dtype, self.device = dtype, device

    def forward(self, x):
        with torch.autocast(self.device, dtype=self.dtype):
            output = self.function(self.layer, x)
        DTYPES.append(output.dtype)
        return output


DTYPES = []


def dtypes(model, x, **options):
    """Return the recorded output dtypes of a run on shapes and a run on data."""
    DTYPES.clear()
    shapes, real = on_shapes(model, x, **options), for_real(model, x, **options)
    assert shapes.modules == real.modules
    assert not shapes.unknown_operators
    return DTYPES


FUNCTIONS = {
    "linear": (nn.Linear(4, 5), lambda layer, x: layer(x), X),
    "of two dtypes": (nn.Linear(4, 5), lambda layer, x: layer(x.bfloat16()), X),
    "matrix product": (nn.Identity(), lambda layer, x: x @ x.T, X),
    "einsum": (nn.Identity(), lambda layer, x: torch.einsum("ij,kj->ik", x, x), X),
    "not cast": (nn.Identity(), lambda layer, x: x.mv(x[0]), X),
    "convolution": (nn.Conv2d(3, 4, 3), lambda layer, x: layer(x), IMAGE),
    "normalization": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        lambda layer, x: layer(x),
        IMAGE,
    ),
    "attention": (nn.MultiheadAttention(8, 2, batch_first=True), lambda layer, x: layer(x, x, x)[0], TOKENS),
    "encoder": (nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), lambda layer, x: layer(x), TOKENS),
    "softmax": (nn.Linear(4, 5), lambda layer, x: F.softmax(layer(x), -1), X),
    "layer norm": (nn.Linear(4, 5), lambda layer, x: F.layer_norm(layer(x), (5,)), X),
    "loss": (nn.Linear(4, 5), lambda layer, x: F.cross_entropy(layer(x), torch.tensor([0, 1, 2])), X),
    "squared error": (nn.Linear(4, 5), lambda layer, x: F.mse_loss(layer(x), torch.zeros(3, 5)), X),
    "joined": (nn.Linear(4, 5), lambda layer, x: torch.cat([layer(x), torch.zeros(3, 5)]), X),
    "switched off": (nn.Linear(4, 5), lambda layer, x: torch.autocast("cpu", enabled=False)(layer)(x), X),
    "another device's": (nn.Linear(4, 5), lambda layer, x: torch.autocast("cuda", enabled=False)(layer)(x), X),
    "recurrent": (nn.RNN(8, 4, batch_first=True), lambda layer, x: layer(x)[0], TOKENS),
}


@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
@pytest.mark.parametrize(("layer", "function", "x"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_dtypes(layer, function, x):
    on_shapes_, real = dtypes(Casts(layer, function), x)
    assert on_shapes_ is real


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_of_a_model_that_asks(dtype):
    # Two products with autocast, three without.

    def forward(layer, x):
        y = layer(x)
        for _ in range(1 if y.dtype is dtype else 2):
            y = y + layer(x)
        return y

    model = Casts(nn.Linear(4, 5), forward, dtype)
    assert both(model, X).flops == 2 * LINEAR
    assert both(model, X, backward=True).flops == 2 * 2 * LINEAR
    assert measure(copy.deepcopy(model).to("meta"), X).flops == 2 * LINEAR


def test_around_the_measurement():
    asks = Casts(nn.Linear(4, 5), lambda layer, x: layer(x) if layer(x).dtype is torch.bfloat16 else x, device="cpu")

    def forward(x):
        return asks.function(asks.layer, x)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert both(forward, X).flops == 2 * LINEAR
    assert both(forward, X).flops == LINEAR


def test_of_another_device():
    """If weights are on the meta device, CUDA's autocast applies to them."""
    model = nn.Linear(4, 5, device="meta")

    def forward(x):
        y = model(x)
        assert y.dtype is torch.bfloat16
        assert F.gelu(y).dtype is torch.bfloat16
        for single in (F.softmax(y, -1), F.layer_norm(y, (5,)), y.exp(), F.mse_loss(y, y), F.normalize(y), y**2):
            assert single.dtype is torch.float32
        return y

    before = torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        assert on_shapes(forward, X).flops == LINEAR
        # Autocast for CUDA does not apply to a model on the CPU.
        layer = nn.Linear(4, 5)
        assert measure(lambda x: layer(x) if layer(x).dtype is torch.bfloat16 else x, X).flops == LINEAR
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", before)


def test_nothing_stays():
    def fails(layer, x):
        raise ValueError("fails")

    kind = torch.amp.autocast_mode.autocast
    before = kind.__enter__, kind.__exit__
    with pytest.raises(ValueError, match="fails"):
        measure(Casts(nn.Linear(4, 5), fails), X)
    assert (kind.__enter__, kind.__exit__) == before
    assert not torch.is_autocast_enabled("cpu")
    assert not torch._C._is_torch_function_mode_enabled()
