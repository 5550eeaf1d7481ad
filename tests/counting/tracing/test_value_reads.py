"""Models that read values of tensors without calling an operator of PyTorch."""

from __future__ import annotations

import copy
import ctypes
import logging
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from pytest_flopsbudget import UsageError, measure, shape_only
from tests.rows import ONES, TakesRows, rows_taken


def number_at(address, kind, index):
    return ctypes.cast(address, ctypes.POINTER(kind))[index]


#: Name → (code that reads a constant, the value that it reads).
OF_CONSTANTS = {
    "numpy": (lambda m, x: torch.tensor([2.5, 3.5]).numpy().sum(), 6),
    "numpy(force=True)": (lambda m, x: torch.arange(4).numpy(force=True).max(), 3),
    "cpu().numpy()": (lambda m, x: torch.tensor([2, 3], device=x.device).cpu().numpy().sum(), 5),
    "np.asarray": (lambda m, x: np.asarray(torch.tensor([2, 3])).sum(), 5),
    "np.array": (lambda m, x: np.array(torch.tensor([2, 3]).tolist()).sum(), 5),
    "tolist": (lambda m, x: torch.linspace(0, 5, 6).tolist()[-1], 5),
    "tolist of one element": (lambda m, x: torch.full((), 4).tolist(), 4),
    "str": (lambda m, x: len(str(torch.tensor([1, 2]))), len("tensor([1, 2])") - 4),
    "f-string": (lambda m, x: float(f"{torch.tensor(4.0)}"), 4),
    "repr": (lambda m, x: repr(torch.zeros(3)).count("0."), 3),
    "percent": (lambda m, x: ("%s" % torch.ones(7)).count("1."), 7),  # noqa: UP031
    "data_ptr": (lambda m, x: number_at((kept := torch.tensor([4, 5])).data_ptr(), ctypes.c_int64, 1) + kept[0] * 0, 5),
    "storage": (lambda m, x: torch.tensor([4, 5]).untyped_storage()[8], 5),
    "typed storage": (lambda m, x: torch.tensor([4, 5]).storage().tolist()[1], 5),
    "dlpack": (lambda m, x: torch.from_dlpack(torch.arange(4)).max(), 3),
    "np.from_dlpack": (lambda m, x: np.from_dlpack(torch.arange(4)).max(), 3),
    "frombuffer": (lambda m, x: torch.frombuffer(bytearray([2, 3]), dtype=torch.uint8).sum(), 5),
    "written through numpy": (lambda m, x: written_through_numpy(), 9),
    "a list of tensors": (lambda m, x: torch.tensor([torch.tensor(2), torch.ones(2)[0].int()]).sum(), 3),
    "a nested list": (lambda m, x: torch.as_tensor([[torch.tensor(2)], [4]]).sum(), 6),
    "new_tensor of a list": (lambda m, x: x.new_tensor([torch.tensor(2), 4]).sum(), 6),
    "written by a function": (lambda m, x: torch.ones(4).apply_(lambda value: value / 2).sum(), 2),
    "places to split": (lambda m, x: x.tensor_split(torch.tensor([2, 3]))[0].shape[0], 2),
    "address of a typed storage": (
        lambda m, x: number_at((kept := torch.tensor([4, 5])).storage().data_ptr(), ctypes.c_int64, 1) + kept[0] * 0,
        5,
    ),
    "a deep copy": (lambda m, x: copy.deepcopy(torch.tensor([2, 3])).tolist()[1], 3),
}


def written_through_numpy():
    tensor = torch.zeros(3)
    tensor.numpy()[1] = 9
    return tensor.sum()


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize("name", OF_CONSTANTS)
def test_constants(name):
    read, value = OF_CONSTANTS[name]
    assert rows_taken(read) == (value, "shapes")


def unpickle(data):
    return pickle.loads(data)  # noqa: S301 -- made in this file


#: Name → (code that reads the input, whose elements are all 1, and the value that it computes).
OF_DATA = {
    "numpy": (lambda m, x: x.numpy()[0].sum(), 8),
    "numpy(force=True)": (lambda m, x: m.layer.bias.numpy(force=True).size - x.numpy(force=True)[0, 0], 7),
    "cpu().numpy()": (lambda m, x: x.detach().cpu().numpy()[0].sum(), 8),
    "np.asarray": (lambda m, x: np.asarray(x).sum() / 8, 10),
    "tolist": (lambda m, x: sum(x[0].tolist()), 8),
    "str": (lambda m, x: str(x[0]).count("1."), 8),
    "f-string": (lambda m, x: float(f"{x[0, 0]}") + 1, 2),
    "repr": (lambda m, x: repr(x[:3, 0]).count("1."), 3),
    "format of a parameter": (lambda m, x: 4 if "Parameter" in f"{m.layer.bias}" else 5, 4),
    "data_ptr": (lambda m, x: number_at(x.data_ptr(), ctypes.c_float, 3) + 1, 2),
    "address of a storage": (lambda m, x: number_at(x.untyped_storage().data_ptr(), ctypes.c_float, 3) + 1, 2),
    "storage": (lambda m, x: 2 if x.untyped_storage()[3] == 0x3F else 4, 2),  # the first byte of 1.0
    "address of a typed storage": (lambda m, x: number_at(x.storage().data_ptr(), ctypes.c_float, 3) + 1, 2),
    "written by a function": (lambda m, x: x[0].clone().apply_(lambda value: value / 2).sum(), 4),
    "dlpack": (lambda m, x: np.from_dlpack(x)[0].sum(), 8),
    "pickle": (lambda m, x: unpickle(pickle.dumps(x))[0].sum(), 8),
    "pickle of a state": (lambda m, x: unpickle(pickle.dumps({"x": [x]}))["x"][0][0].sum(), 8),
    "a pickler in Python": (lambda m, x: unpickle(pickle._dumps(x))[0].sum(), 8),
    "a list of tensors": (lambda m, x: torch.tensor([x[0, 0], x[0, 1]]).sum(), 2),
}


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize("name", OF_DATA)
def test_data(name):
    """If a model reads the values of its input, it runs on data."""
    read, value = OF_DATA[name]
    assert rows_taken(read) == (value, "real")


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize("name", OF_DATA)
def test_data_that_is_not_there(name):
    with shape_only():
        model = TakesRows(OF_DATA[name][0])
    with pytest.raises(UsageError, match=r"TakesRows needs data, and .* \(on the meta device\) has none: "):
        measure(model, ONES)


@pytest.mark.parametrize(
    "read",
    [
        lambda grid: grid.prod(-1).tolist(),
        lambda grid: [int(row[0] * row[1]) for row in grid.numpy()],
        lambda grid: [height * width for height, width in grid.tolist()],
        lambda grid: list(np.asarray(grid).prod(-1)),
        lambda grid: torch.tensor([row.prod() for row in grid]).tolist(),
    ],
)
def test_integer_inputs(read):
    with shape_only():
        model = Split(read)
    result = measure(model, (ONES, torch.tensor([[2, 3], [2, 2]])))
    assert (result.flops, result.modules["layer"].calls, result.execution) == (2 * 10 * 64, 2, "real")


class Split(nn.Module):
    """A module that splits ``x`` into parts of the lengths ``read(grid)``, and calls its layer on each part."""

    def __init__(self, read):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.read = read

    def forward(self, x, grid):
        return [self.layer(part) for part in x.split(self.read(grid))]


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_copies_read_no_value(make):
    def forward(x):
        return make(x) @ torch.ones(8, 8)

    result = measure(forward, ONES)
    assert (result.flops, result.execution) == (2 * 10 * 8 * 8, "shapes")


def test_texts_that_nobody_parses():
    """Writing a tensor into a log needs no data."""

    class Checks(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            logging.getLogger(__name__).warning("input %s", x)
            output = self.layer(x)
            if not output.requires_grad:
                raise ValueError(f"{output} takes no gradients")
            return output

    assert measure(Checks(), ONES).execution == "shapes"


def test_addresses_that_pytorch_compares():
    """If a model moves an LSTM to the device where the LSTM already is, the model is counted on shapes."""
    result = measure(lambda layer, x: layer.to("cpu").float()(x)[0], (nn.LSTM(8, 8), ONES))
    assert (result.flops, result.execution) == (10 * 2 * 4 * 8 * 16, "shapes")


def test_nothing_stays_replaced():
    before = dict(vars(torch.Tensor)), dict(vars(torch.UntypedStorage)), torch.tensor, torch.from_dlpack
    rows_taken(OF_DATA["numpy"][0])
    with shape_only():
        pass
    assert (dict(vars(torch.Tensor)), dict(vars(torch.UntypedStorage)), torch.tensor, torch.from_dlpack) == before
