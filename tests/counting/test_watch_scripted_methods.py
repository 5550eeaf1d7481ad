"""A method of a scripted or traced module that Python calls directly is counted for the module, or named in a note."""

from __future__ import annotations

import io
import threading

import pytest
import torch
from squares import SQUARE, X, calls_of, flops_of, square
from torch import nn

from pytest_flopsbudget import measure, watch
from pytest_flopsbudget.counting.aggregation.result import OPAQUE

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = square()

    def forward(self, x):
        return self.part(self.part(x))

    @torch.jit.export
    def once(self, x):
        return self.part(x)


class Calls(nn.Module):
    def __init__(self, scripted, function):
        super().__init__()
        self.first, self.scripted, self.function = square(), scripted, [function]

    def forward(self, x):
        return self.function[0](self.scripted, self.first(x))


def loaded(module):
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    file.seek(0)
    return torch.jit.load(file)


MADE = {
    "scripted": torch.jit.script,
    "traced": lambda module: torch.jit.trace(module, X),
    "frozen": lambda module: torch.jit.freeze(torch.jit.script(module.eval())),
    "loaded": loaded,
}
CALLS = {
    "forward": lambda scripted, x: scripted.forward(x),
    "keyword": lambda scripted, x: scripted.forward(x=x),
    "kept": lambda scripted, x: [method := scripted.forward, method(x)][1],
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("made", MADE)
def test_forward_of_a_part(made, call):
    model = Calls(MADE[made](Twice()), CALLS[call])
    with watch() as watched:
        model(X)
    counted = watched.complexity
    assert flops_of(counted) == {"": 3 * SQUARE, "first": SQUARE, "scripted": 2 * SQUARE}
    assert calls_of(counted) == {"": 1, "first": 1, "scripted": 1}


@pytest.mark.parametrize("made", MADE)
def test_forward_of_the_model(made):
    """If ``forward`` of a scripted model is called directly, the metrics equal those of a usual call."""
    model = MADE[made](Twice())
    with watch() as called:
        model(X)
    with watch() as direct:
        model.forward(X)
    assert direct.complexity == called.complexity
    assert direct.complexity.flops == 2 * SQUARE


def test_called_both_ways():
    model = torch.jit.script(Twice())
    with watch() as outer, watch() as inner:
        model.forward(model(X)).sum().backward()
    for watched in (outer, inner):
        assert calls_of(watched.complexity) == {"": 2}
        # Each product has two gradients, but the input of the first product needs none.
        assert watched.complexity.flops == 4 * SQUARE + (2 * 4 - 1) * SQUARE


def test_another_method():
    """The work of another method of a scripted module is credited to the module that calls the method."""
    model = Calls(torch.jit.script(Twice()), lambda scripted, x: scripted.once(x))
    with watch() as watched:
        model(X)
    assert flops_of(watched.complexity) == {"": 2 * SQUARE, "first": SQUARE, "scripted": 0}
    assert watched.complexity.notes == (OPAQUE,)


def test_module_not_found():
    method = torch.jit.script(Twice()).forward  # the Python object of the module has ended
    with watch() as watched:
        method(X)
    assert watched.complexity.flops == 2 * SQUARE
    assert "the module was not found" in watched.complexity.notes[0]


def test_on_another_thread():
    model = torch.jit.script(Twice())

    def call(scripted, x):
        thread = threading.Thread(target=scripted.forward, args=(x,))
        thread.start()
        thread.join()
        return x

    with watch() as watched:
        Calls(model, call)(X)
    assert "threading.Thread" in watched.complexity.unknown_operators


def test_tracing():
    """If a watched block only traces a model, no work is counted."""
    model = Calls(torch.jit.script(Twice()), CALLS["forward"])
    with watch() as watched:
        traced = torch.jit.trace(model, X)
    assert watched.complexity.flops == 0
    assert torch.equal(traced(X + 1), model(X + 1))


def test_after_a_watch():
    before = vars(torch.ScriptMethod)["__call__"]
    with watch():
        assert vars(torch.ScriptMethod)["__call__"] is not before
    assert vars(torch.ScriptMethod)["__call__"] is before


def test_errors():
    model = torch.jit.script(Twice())
    with watch() as watched:
        with pytest.raises(RuntimeError, match="missing value for argument"):
            model.forward()
        model.forward(X)
    assert calls_of(watched.complexity) == {"": 2}
    assert watched.complexity.flops == 2 * SQUARE


@pytest.mark.parametrize("made", MADE)
def test_measured(made):
    model = MADE[made](Twice())
    counted, method = measure(model, X), measure(model.forward, X)
    assert method.metrics == counted.metrics
    assert calls_of(method) == calls_of(counted)
    assert measure(lambda x: model.forward(x) + 1, X).flops == 2 * SQUARE


def test_measured_in_training():
    """In training too, a method of a scripted module runs on shapes, and the model's statistics do not change."""
    model = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    counted = measure(model.forward, X)
    assert (counted.execution, counted.params) == ("shapes", 20 + 8)
    assert int(model.state_dict()["1.num_batches_tracked"]) == 0
