"""Values that a model computes from Python numbers are known on shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flopsbudget import measure, shape_only
from tests.rows import A_ROW, ONES, TakesRows, rows_taken
from tests.zoo import both


def elements_of(tensor):
    tensor[0] = 2
    tensor[1:] = 1
    tensor[torch.tensor(1)] += 1
    return tensor.sum()


def lengths(x):
    sizes = torch.tensor([2, 3], device=x.device)
    starts = torch.cat((sizes.new_zeros(1), sizes.cumsum(0)[:-1]))
    return starts.sum() + 1


CONSTANTS = {
    "tensor": (lambda m, x: torch.tensor([2, 3], device=x.device).sum(), 5),
    "as_tensor": (lambda m, x: torch.as_tensor([2.5, 2.5], device=x.device).sum(), 5),
    "asarray": (lambda m, x: torch.asarray([2, 3], device=x.device).sum(), 5),
    "new_tensor": (lambda m, x: x.new_tensor([2, 3]).sum(), 5),
    "new": (lambda m, x: x.new([2, 3]).sum(), 5),
    "new_ones": (lambda m, x: x.new_ones(4, dtype=torch.long).sum(), 4),
    "new_zeros": (lambda m, x: x.new_zeros(4).sum() + 1, 1),
    "new_full": (lambda m, x: x.new_full((2,), 3).sum(), 6),
    "ones_like": (lambda m, x: torch.ones_like(x[0]).sum(), 8),
    "zeros_like": (lambda m, x: torch.zeros_like(x[0], dtype=torch.int32).sum() + 2, 2),
    "full_like": (lambda m, x: torch.full_like(x[0], 0.5).sum(), 4),
    "full_like of a tensor": (lambda m, x: torch.full_like(x[0], torch.tensor(0.25)).sum(), 2),
    "fill_": (lambda m, x: torch.empty(2, device=x.device).fill_(3).sum(), 6),
    "fill_ of a computed tensor": (lambda m, x: x[0, :2].sigmoid().fill_(3).sum(), 6),
    "fill_ with a tensor": (lambda m, x: x[0, :2].sigmoid().fill_(torch.tensor(2)).sum(), 4),
    "zero_": (lambda m, x: (x[0] * 2).zero_().sum() + 2, 2),
    "copy_": (lambda m, x: x[0, :2].sigmoid().copy_(torch.tensor([2, 3])).sum(), 5),
    "elements of zeros": (lambda m, x: elements_of(torch.zeros(3, device=x.device)), 5),
    "elements of empty": (lambda m, x: elements_of(torch.empty(3, dtype=torch.long)), 5),
    "elements of new_ones": (lambda m, x: elements_of(x.new_ones(3)), 5),
    "elements of half precision": (lambda m, x: elements_of(torch.zeros(3, dtype=torch.bfloat16)), 5),
    "lengths": (lambda m, x: lengths(x), 3),
    "complex": (lambda m, x: torch.full((2,), 2j).imag.sum(), 4),
    "boolean": (lambda m, x: torch.tensor([True, False, True], device=x.device).sum(), 2),
}

NUMBERS = {
    "div, trunc": (lambda m, x: torch.div(x.shape[0], 2, rounding_mode="trunc"), 5),
    "div, floor": (lambda m, x: torch.div(7, 2, rounding_mode="floor"), 3),
    "div": (lambda m, x: torch.div(9, 2), 4),
    "add": (lambda m, x: torch.add(1, 2), 3),
    "add, alpha": (lambda m, x: torch.add(1, 2, alpha=3), 7),
    "sub": (lambda m, x: torch.sub(7, 3), 4),
    "mul": (lambda m, x: torch.mul(2, 3.5), 7),
    "floor_divide": (lambda m, x: torch.floor_divide(x.shape[0], 3), 3),
    "after other values": (lambda m, x: torch.add(1, 2) + torch.ones(1)[0], 4),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants(name):
    read, value = CONSTANTS[name]
    assert rows_taken(read) == (value, "shapes")


@pytest.mark.parametrize("name", NUMBERS)
def test_operators_on_numbers(name):
    read, value = NUMBERS[name]
    assert rows_taken(read) == (value, "shapes")
    both(TakesRows(read), ONES, without=("peak_memory",))


def test_what_is_written_is_no_constant():
    """If an unknown value is written into a known tensor, the tensor becomes unknown."""

    def read(_model, x):
        tensor = torch.zeros(2)
        tensor[1] = x[0].sum()
        return tensor.sum()

    assert rows_taken(read) == (8, "real")


@pytest.mark.parametrize(
    "write", [lambda t, x: t.copy_(x[0, :2]), lambda t, x: t.add_(x[0, 0]), lambda t, x: t.uniform_(3, 3)]
)
def test_written_whole(write):
    def read(_model, x):
        tensor = torch.full((2,), 1.0)
        write(tensor, x)
        return tensor.sum()

    assert rows_taken(read)[1] == "real"


def test_part_of_a_storage():
    """If a part of an unknown tensor is filled, the tensor stays unknown."""

    def read(_model, x):
        tensor = x[0] * 1
        tensor[:2].fill_(0)
        return tensor.sum()

    assert rows_taken(read) == (6, "real")


class Strides(nn.Module):
    """A module that holds small tensors and computes from them how many rows of the input it uses."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.stride = torch.tensor([2.0, 3.0])
        self.offsets = [torch.tensor(4.0), torch.tensor(1.0)]
        self.register_buffer("scale", torch.tensor(3.0))
        self.levels = {"one": torch.tensor([1])}
        self.largest = int(self.stride.max())

    def forward(self, x):
        grid = torch.full((2,), self.stride[0] * self.scale + self.offsets[0] - 5)  # 2 · 3 + 4 - 5
        return self.layer(x[: int(grid.max() * self.levels["one"])])


@pytest.mark.parametrize("x", [ONES, torch.empty(10, 8, device="meta")], ids=["data", "meta"])
@pytest.mark.parametrize("without_data", [False, True])
def test_settings(without_data, x):
    """The values of small tensors that a model holds are known on shapes."""
    if without_data:
        with shape_only():
            model = Strides()
    else:
        model = Strides()
    result = measure(model, x)
    assert (model.largest, result.flops, result.execution) == (3, 5 * A_ROW, "shapes")


def test_settings_that_the_run_changes():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)
            self.register_buffer("calls", torch.tensor(0.0))

        def forward(self, x):
            self.calls += 1
            return self.layer(x[: int(self.calls) + 2])

    model = Counts()
    result = measure(model, ONES)
    assert (result.flops, result.execution, model.calls.item()) == (3 * A_ROW, "shapes", 0)


def test_parameters_are_data():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)
            self.gate = nn.Parameter(torch.tensor(4.0))

        def forward(self, x):
            return self.layer(x[: int(self.gate)])

    result = measure(Gate(), ONES)
    assert (result.flops, result.execution) == (4 * A_ROW, "real")
