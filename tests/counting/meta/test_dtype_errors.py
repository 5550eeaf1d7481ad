"""Operands of different dtypes raise the same errors on shapes as on data."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its name everywhere

from pytest_flopsbudget import measure, shape_only
from tests.zoo import on_shapes


def ones(dtype, *shape):
    return torch.ones(*shape, dtype=dtype)


#: Name → a call with operands of two dtypes.
CALLS = {
    "mm": lambda a, b: torch.mm(ones(a, 2, 3), ones(b, 3, 4)),
    "bmm": lambda a, b: torch.bmm(ones(a, 2, 2, 3), ones(b, 2, 3, 4)),
    "mv": lambda a, b: torch.mv(ones(a, 2, 3), ones(b, 3)),
    "dot": lambda a, b: torch.dot(ones(a, 3), ones(b, 3)),
    "addmm": lambda a, b: torch.addmm(ones(a, 4), ones(b, 2, 3), ones(b, 3, 4)),
    "baddbmm": lambda a, b: torch.baddbmm(ones(a, 4), ones(b, 2, 2, 3), ones(b, 2, 3, 4)),
    "linear": lambda a, b: F.linear(ones(a, 2, 5, 3), ones(b, 4, 3), ones(b, 4)),
    "bias": lambda a, b: F.linear(ones(a, 2, 3), ones(a, 4, 3), ones(b, 4)),
    "matmul": lambda a, b: ones(a, 2, 5, 3) @ ones(b, 3, 4),
    "einsum": lambda a, b: torch.einsum("ij,jk->ik", ones(a, 2, 3), ones(b, 3, 4)),
    "conv1d": lambda a, b: F.conv1d(ones(a, 1, 2, 5), ones(b, 3, 2, 1)),
    "conv2d": lambda a, b: F.conv2d(ones(a, 1, 2, 5, 5), ones(b, 3, 2, 3, 3), padding=1, stride=2),
    "grouped conv2d": lambda a, b: F.conv2d(ones(a, 1, 4, 5, 5), ones(b, 4, 2, 1, 1), groups=2),
    "conv_transpose2d": lambda a, b: F.conv_transpose2d(ones(a, 1, 2, 5, 5), ones(b, 2, 3, 1, 1)),
    "bias of a convolution": lambda a, b: F.conv2d(ones(a, 1, 2, 5, 5), ones(a, 3, 2, 1, 1), ones(b, 3)),
    "attention": lambda a, b: F.scaled_dot_product_attention(*(ones(dtype, 1, 2, 4, 8) for dtype in (a, b, b))),
    "layer_norm": lambda a, b: F.layer_norm(ones(a, 2, 3), (3,), ones(b, 3), ones(b, 3)),
    "group_norm": lambda a, b: F.group_norm(ones(a, 2, 4, 4), 2, ones(b, 4), ones(b, 4)),
    "batch_norm": lambda a, b: F.batch_norm(ones(a, 2, 3, 4), *(ones(b, 3) for _ in range(4))),
}
PAIRS = [
    (torch.float64, torch.float32),
    (torch.float32, torch.float64),
    (torch.int64, torch.float32),
    (torch.float16, torch.float32),
    (torch.bfloat16, torch.float32),
    (torch.complex64, torch.float32),
]


def error_of(call):
    try:
        call()
    except RuntimeError as error:
        return str(error).replace("torch.", "")
    return None


@pytest.mark.parametrize("pair", PAIRS, ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_as_for_real(name, pair):
    for_real = error_of(lambda: CALLS[name](*pair))
    shapes = error_of(lambda: on_shapes(lambda: CALLS[name](*pair)))
    assert (shapes is None) == (for_real is None), (shapes, for_real)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (lambda: nn.Linear(8, 8), (2, 8)),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)), (1, 3, 4, 4)),
        (lambda: nn.MultiheadAttention(8, 2), (3, 2, 8)),
        (lambda: nn.LSTMCell(8, 8), (2, 8)),
        (lambda: nn.Bilinear(8, 8, 4), (2, 8)),
    ],
)
def test_models_without_data(model, shape):
    """If a model without data gets a float64 input for float32 weights, the run on shapes raises an error."""
    with shape_only():
        built = model()
    x = torch.empty(shape, dtype=torch.float64)
    inputs = {nn.MultiheadAttention: 3, nn.Bilinear: 2}.get(type(built), 1)
    with pytest.raises(RuntimeError, match=r"(?i)double|float64"):
        measure(built, (x,) * inputs)
    measure(built, (x.float(),) * inputs)
