"""If ``forward`` of a module is called directly, the module is still credited with its work."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import threading

import pytest
import torch
from squares import SQUARE, Calls, X, calls_of, flops_of, square
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import both

from pytest_flopsbudget.counting.measure import measure


def run_by_a_helper(part, x):
    return part.forward(x)


def in_steps(self, x):
    """Call the first layer by its ``forward``, then as usual, and then the second layer by its ``forward``."""
    return self.second.forward(self.first(self.first.forward(x)))


BOTH = {"first": SQUARE, "second": SQUARE, "second.0": SQUARE, "": 2 * SQUARE}
DIRECT = {
    "both": (lambda self, x: self.second.forward(self.first.forward(x)), BOTH),
    "a helper": (lambda self, x: run_by_a_helper(self.second, run_by_a_helper(self.first, x)), BOTH),
    "keyword": (lambda self, x: self.second.forward(input=self.first.forward(input=x)), BOTH),
    "kept method": (lambda self, x: [self.second(x), method := self.first.forward, method(x)][-1], BOTH),
    "partial": (lambda self, x: functools.partial(self.first.forward, self.second(x))(), BOTH),
    "a checkpoint": (lambda self, x: checkpoint(self.first.forward, self.second(x), use_reentrant=False), BOTH),
    "twice": (in_steps, BOTH | {"first": 2 * SQUARE, "": 3 * SQUARE}),
}


#: What `look` in `test_what_a_model_sees` saw. It is global, because a run would clone a list in a closure.
SEEN = []


@pytest.mark.parametrize("name", DIRECT)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_credited(name):
    function, expected = DIRECT[name]
    counted = both(Calls(function), X)
    assert flops_of(counted) == expected
    calls = {
        path: flops // (2 * SQUARE if not path and name != "twice" else SQUARE) for path, flops in expected.items()
    }
    assert calls_of(counted) == calls | {"": 1}


class Checkpointing(nn.Module):
    """Wraps ``forward`` of each subclass, like layers of transformers: only the outermost wrapper checkpoints."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        forward = cls.forward

        @functools.wraps(forward)
        def wrapper(self, *args, factor=1):
            if type(self).forward is wrapper:
                return checkpoint(functools.partial(forward, self), *args, use_reentrant=False) * factor
            return forward(self, *args)

        cls.forward = wrapper


class Wrapped(Checkpointing):
    def __init__(self):
        super().__init__()
        self.first, self.second = square(), square()

    def forward(self, x):
        return self.second(self.first(x))


class WrappedTwice(Wrapped):
    def forward(self, x):
        return super().forward(x)


@pytest.mark.parametrize("kind", [Wrapped, WrappedTwice])
@pytest.mark.parametrize("call", [lambda model, x: model(x), lambda model, x: model.forward(x, factor=2)])
def test_a_forward_that_finds_itself_in_its_class(kind, call):
    """The first layer is computed again in the backward pass; nothing needs the output of the second."""
    before = kind.forward
    model = Calls(lambda self, x: call(self.first, x))
    model.first = kind()
    counted = measure(model, X, backward=True)
    assert counted.recomputed_flops == counted["first.first"].recomputed_flops == SQUARE
    assert counted["first"].flops == 6 * SQUARE  # forward, two weights, one input, once again
    assert kind.forward is before


def test_memory():
    """A module has the same peak memory, whether the module or its ``forward`` is called."""
    ordinary = both(Calls(lambda self, x: self.second(self.first(x))), X)
    direct = both(Calls(lambda self, x: self.second.forward(self.first.forward(x))), X)
    assert {path: module.peak_memory for path, module in direct.modules.items()} == {
        path: module.peak_memory for path, module in ordinary.modules.items()
    }


def test_backward():
    counted = both(Calls(lambda self, x: self.second.forward(self.first.forward(x))), X, backward=True)
    assert flops_of(counted) == {"": 5 * SQUARE, "first": 2 * SQUARE, "second": 3 * SQUARE, "second.0": 3 * SQUARE}


def test_recomputed():
    def within(self, x):
        return checkpoint(lambda x: self.first.forward(self.second.forward(x)), x, use_reentrant=False)

    counted = measure(Calls(within), X, backward=True)
    assert counted["first"].metrics["recomputed_flops"] == 0
    assert counted["second"].metrics["recomputed_flops"] == SQUARE


class Parent(nn.Linear):
    """A layer whose ``forward`` a subclass replaces."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight)


class Child(Parent):
    def forward(self, x):
        return Parent.forward(self, x).relu()


#: A function of a class that was read before the measurement.
KEPT = nn.Linear.__call__

CLASSES = {
    "of the part": lambda part, x: Child.forward(part, x),  # noqa: PLW0108 -- reads the class in the run
    "of a base class": lambda part, x: Parent.forward(part, x),  # noqa: PLW0108 -- reads the class in the run
    "of the type": lambda part, x: type(part).forward(part, x),
    "of super": lambda part, x: super(Child, part).forward(x),
    "bound": lambda part, x: Parent.forward.__get__(part)(x),
    "kept call": lambda part, x: KEPT(part, x),  # noqa: PLW0108 -- the name shows what runs
}


@pytest.mark.parametrize("name", CLASSES)
def test_functions_of_classes(name):
    """If a model calls ``Class.forward(part, x)``, one call of the part is counted."""
    model = Calls(lambda self, x: self.second(self.function[1](self.first, x)))
    model.first = Child(4, 4, bias=False)
    model.function.append(CLASSES[name])
    before = vars(Parent)["forward"], vars(Child)["forward"], vars(nn.Linear)["forward"]
    counted = both(model, X)
    assert flops_of(counted) == BOTH
    assert calls_of(counted) == dict.fromkeys(BOTH, 1)
    assert (vars(Parent)["forward"], vars(Child)["forward"], vars(nn.Linear)["forward"]) == before


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripting_in_a_run():
    def scripts(self, x):
        return torch.jit.script(nn.Linear(4, 4, bias=False))(self.first.forward(x))

    assert both(Calls(scripts), X).flops == 2 * SQUARE


def test_super():
    """If ``forward`` calls the ``forward`` of its superclass, only one call is counted."""

    class Extended(nn.Linear):
        def forward(self, x):
            return super().forward(x).relu()

    class Again(Extended):
        def __call__(self, x):
            return self.forward(x)

    counted = both(nn.Sequential(Extended(4, 4, bias=False), Again(4, 4, bias=False)), X)
    assert flops_of(counted) == {"": 2 * SQUARE, "0": SQUARE, "1": SQUARE}
    assert calls_of(counted) == {"": 1, "0": 1, "1": 1}


def test_recursion():
    """If ``forward`` calls itself, only one call is counted."""

    class Recursive(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = square()

        def forward(self, x, depth=3):
            return self.forward(self.layer(x), depth - 1) if depth else x

    counted = both(Recursive(), X)
    assert calls_of(counted) == {"": 1, "layer": 3}


def test_shared():
    """If two modules call the ``forward`` of a shared module, the shared module is listed below both."""
    shared = square()

    class Direct(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = shared

        def forward(self, x):
            return self.part.forward(x)

    counted = both(nn.Sequential(Direct(), Direct()), X)
    assert {path: flops for path, flops in flops_of(counted).items() if path} == dict.fromkeys(
        ("0", "0.part", "1", "1.part"), SQUARE
    )


def test_functions():
    """If a measured function calls ``model.forward``, the model is listed as a part of the function."""
    model = nn.Sequential(square(), square())
    counted = both(lambda x: model.forward(x), (X,))  # noqa: PLW0108 -- this tests a function
    assert counted.flops == 2 * SQUARE
    assert calls_of(counted) == {"": 1, "Sequential": 1, "Sequential.0": 1, "Sequential.1": 1}
    assert flops_of(measure(model.forward, X)) == {"": 2 * SQUARE, "0": SQUARE, "1": SQUARE}


def test_a_forward_of_an_instance():
    """If a library replaces ``forward`` of a module, the replacement is called."""
    model = Calls(lambda self, x: self.second(self.first(x)))
    model.first.forward = functools.partial(lambda layer, x: nn.Linear.forward(layer, x) * 2, model.first)
    before = model.first.forward
    counted = both(model, X)
    assert flops_of(counted) == BOTH
    assert model.first.forward is before


def test_what_a_model_sees():
    """During a measurement, ``forward`` has its usual signature, name and documentation."""

    def look(self, x):
        method = self.first.forward
        SEEN.append((str(inspect.signature(method)), method.__name__, method.__doc__, method.__self__ is self.first))
        copied = copy.deepcopy(self.first)
        restored = pickle.loads(pickle.dumps(self.first))  # noqa: S301
        assert restored.weight.shape == copied.weight.shape
        return self.second(copied.forward(copied(x)))

    model = Calls(look)
    counted = measure(model, X)
    method = model.first.forward
    assert set(SEEN) == {(str(inspect.signature(method)), method.__name__, method.__doc__, True)}
    assert counted.flops == 3 * SQUARE
    assert counted["first"].flops == 0  # the copies belong to the module that makes them
    assert "forward" not in model.first.__dict__


def test_other_threads():
    """If ``forward`` of a module runs on another thread, the result lists an unknown operator with the module."""

    def on_a_thread(self, x):
        thread = threading.Thread(target=self.first.forward, args=(x,))
        thread.start()
        thread.join()
        return self.second(x)

    counted = measure(Calls(on_a_thread), X)
    assert counted.unknown_operators["threading.Thread"].modules == ("first",)
    assert counted.flops == SQUARE
