"""The shapes of the tensors that modules return."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from pytest_flopsbudget import measure, watch
from pytest_flopsbudget.counting.tracing.labels import shapes_in


class Pair(NamedTuple):
    a: Any
    b: Any


class Returns(nn.Module):
    """A module that returns what a function makes of its input."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


class Outer(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        self.part(x)
        return x


def endless(x):
    found = [x]
    found.append(found)
    return found


ONE = ("float32[2, 3]",)


@pytest.mark.parametrize(
    ("make", "outputs"),
    [
        (lambda x: x, ONE),
        (lambda x: x.sum(), ("float32[]",)),
        (lambda x: x.long(), ("int64[2, 3]",)),
        (lambda x: (x, x[0]), (*ONE, "float32[3]")),
        (lambda x: {"a": x, "b": [x[0], (x,)]}, (*ONE, "float32[3]", *ONE)),
        (lambda x: OrderedDict(z=x), ONE),
        (lambda x: Pair(x, None), ONE),
        (lambda x: [x] * 20, ONE * 8),
        (endless, ONE * 8),
        (lambda _: None, ()),
        (lambda _: "text", ()),
        (lambda x: x[:0], ("float32[0, 3]",)),
    ],
)
def test_outputs(make, outputs):
    assert measure(Outer(Returns(make)), torch.zeros(2, 3))["part"].outputs == outputs


def test_objects_are_not_searched():
    """Tensors in a dict are found without a call of the methods of its class."""

    class Lazy(dict):
        def values(self):
            raise AssertionError("the model's code ran")

    assert measure(Outer(Returns(lambda x: Lazy(a=x))), torch.zeros(2, 3))["part"].outputs == ONE


def test_the_first_call():
    part = nn.Linear(3, 4)
    measured = measure(lambda x: part(x[:1]) + part(x), torch.zeros(2, 3))
    assert measured["Linear"].outputs == ("float32[1, 4]",)
    assert measured["Linear"].calls == 2


def test_not_called():
    assert measure(nn.Identity(), torch.zeros(2))[""].outputs == ("float32[2]",)
    model = nn.Sequential(nn.Linear(3, 4))
    model[0].unused = nn.ReLU()
    assert measure(model, torch.zeros(2, 3))["0.unused"].outputs == ()


def test_equal_on_shapes_and_for_real():
    def step(x):
        return x * x.sum().item()

    real = measure(nn.Sequential(nn.Linear(3, 4), Returns(step)), torch.ones(2, 3))
    assert real.execution == "real"
    assert [one.outputs for one in real.modules.values()] == [("float32[2, 4]",)] * 3


def test_backward_and_checkpoints():
    """If a checkpoint repeats a call, the outputs of the module are listed once."""
    part = nn.Linear(3, 4)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = part

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.part, x, use_reentrant=False)

    assert measure(Net(), torch.zeros(2, 3), backward=True)["part"].outputs == ("float32[2, 4]",)


def test_a_function_mode_sees_no_call():
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    def run(x):
        with Mode():
            return part(x)

    part = nn.Identity()
    assert measure(run, torch.zeros(2))["Identity"].outputs == ("float32[2]",)
    assert torch.Tensor.shape.__get__ not in seen


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # `torch.jit.trace` is deprecated
def test_a_traced_model():
    """If PyTorch traces a function, `shapes_in` adds nothing to the graph."""

    def double(x):
        assert not shapes_in(x)
        return x * 2

    graph = torch.jit.trace(double, torch.zeros(2, 3), check_trace=False).graph
    assert "aten::size" not in str(graph)


def test_memory_is_not_kept():
    model = nn.Sequential(*(nn.ReLU() for _ in range(5)))
    measured = measure(model, torch.zeros(1000))
    assert measured.peak_memory <= 3 * 4000


def test_watched():
    model = nn.Sequential(nn.Linear(3, 4), Returns(lambda x: (x, x[0])))
    with watch() as watched:
        model(torch.zeros(2, 3))
    assert [one.outputs for one in watched.complexity.modules.values()] == [
        ("float32[2, 4]", "float32[4]"),
        ("float32[2, 4]",),
        ("float32[2, 4]", "float32[4]"),
    ]


def test_watched_and_raised():
    model = nn.Sequential(nn.Linear(3, 4), Returns(lambda _: 1 / 0))
    with watch() as watched, pytest.raises(ZeroDivisionError):
        model(torch.zeros(2, 3))
    assert [one.outputs for one in watched.complexity.modules.values()] == [(), ("float32[2, 4]",), ()]
