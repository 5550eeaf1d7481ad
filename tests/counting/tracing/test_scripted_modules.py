"""Modules inside of scripted and traced modules have the same calls and work as ordinary modules."""

from __future__ import annotations

import warnings

import pytest
import torch
from squares import SQUARE, X, calls_of, flops_of, square
from torch import nn
from zoo import both

from pytest_flopsbudget import watch
from pytest_flopsbudget.counting.aggregation.result import OPAQUE
from pytest_flopsbudget.counting.measure import measure

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

WAYS = pytest.mark.parametrize("way", ["script", "trace"])


def made(model, way):
    return torch.jit.script(model) if way == "script" else torch.jit.trace(model, X)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = square(), square()

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class Model(nn.Module):
    """A model with a part in a loop, parts in a list, and work between its parts."""

    def __init__(self):
        super().__init__()
        self.block, self.last, self.layers = Block(), square(), nn.ModuleList([square(), square()])

    def forward(self, x):
        for _ in range(2):
            x = self.block(x)
        for layer in self.layers:
            x = layer(x)
        return self.last(x @ x.t() @ x)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Block(), Block()
        self.second.first = self.first.first

    def forward(self, x):
        return self.second(self.first(x))


class Methods(nn.Module):
    """A model that calls the method ``encode`` of one part, and ``forward`` of another part."""

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = square()

        def encode(self, x):
            return self.layer(x) @ x.t() @ x

        def forward(self, x):
            return self.encode(self.encode(x))

    def __init__(self):
        super().__init__()
        self.part, self.other = Methods.Part(), Methods.Part()

    def forward(self, x):
        return self.other.forward(self.part.encode(x))


def compared(counted):
    """Return {path: (calls, metrics without peak memory)}. TorchScript frees tensors earlier than Python."""
    return {
        path: (module.calls, {key: value for key, value in module.metrics.items() if key != "peak_memory"})
        for path, module in counted.modules.items()
    }


class Holds(nn.Module):
    """A model that is not scripted. It calls ``function(part, x)``."""

    def __init__(self, function, part):
        super().__init__()
        self.function, self.part = [function], part

    def forward(self, x):
        return self.function[0](self.part, x)


#: A traced model has only one name for a shared module, so `Shared` is only scripted.
KINDS_AND_WAYS = [
    (kind, way) for kind in (Model, Shared, Block) for way in ("script", "trace") if (kind, way) != (Shared, "trace")
]


@pytest.mark.parametrize(("kind", "way"), KINDS_AND_WAYS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_as_before(kind, backward, way):
    model = kind()
    counted, before = both(made(model, way), X, backward=backward), both(model, X, backward=backward)
    assert compared(counted) == compared(before)
    assert not counted.notes


@WAYS
def test_numbers(way):
    counted = both(made(Model(), way), X)
    products = 2 * (2 * 3 * 3 * 4)  # x @ x.t() and its product with x, of 3 rows and 4 columns
    assert flops_of(counted) == {
        "": 7 * SQUARE + products,
        "block": 4 * SQUARE,
        "block.first": 2 * SQUARE,
        "block.second": 2 * SQUARE,
        "last": SQUARE,
        "layers": 2 * SQUARE,
        "layers.0": SQUARE,
        "layers.1": SQUARE,
    }
    assert calls_of(counted) == dict.fromkeys(counted.modules, 1) | {
        "block": 2,
        "block.first": 2,
        "block.second": 2,
        "layers": 0,
    }


def test_methods():
    """Work in a method other than ``forward`` is credited to the module that calls the method."""
    model = Methods()
    counted = both(torch.jit.script(model), X)
    assert compared(counted) == compared(both(model, X))
    assert calls_of(counted) == {"": 1, "part": 0, "part.layer": 1, "other": 1, "other.layer": 2}


@WAYS
def test_repeated_calls(way):
    """After TorchScript has optimized a graph, the work is still credited to the right submodules."""

    def repeat(part, x):
        for _ in range(5):
            x = part(x)
        return x

    counted = both(Holds(repeat, made(Block(), way)), X.clone().requires_grad_(), backward=True)
    assert counted["part.first"].flops == counted["part.second"].flops == 5 * 3 * SQUARE
    assert counted["part.first"].calls == 5
    # The weight, and the tensor that one call makes.
    assert counted["part.first"].peak_memory == 4 * 16 + 4 * 12


@WAYS
def test_parts_of_an_ordinary_model(way):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.called, self.direct = made(Block(), way), made(Block(), way)

        def forward(self, x):
            return self.direct.forward(self.called(x))

    counted = both(Outer(), X)
    assert calls_of(counted) == dict.fromkeys(counted.modules, 1)
    assert flops_of(counted) == {
        "": 4 * SQUARE,
        "called": 2 * SQUARE,
        "called.first": SQUARE,
        "called.second": SQUARE,
        "direct": 2 * SQUARE,
        "direct.first": SQUARE,
        "direct.second": SQUARE,
    }


class Layer(nn.Module):
    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 -- the name in `nn.Linear`
        pass


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.jit.interface(Layer)


class Chooses(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([square(), square()])

    def forward(self, x, index: int = 1):
        layer: Layer = self.layers[index]
        return layer.forward(x)


class Exports(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = square()

    @torch.jit.export
    def encode(self, x):
        return self.layer(x)

    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "run"),
    [(Chooses, lambda model, x: model(x)), (Exports, lambda model, x: model.encode(x))],
    ids=["chosen", "exported method"],
)
def test_parts_that_are_not_followed(make, run):
    """If a call in a scripted module cannot be followed, a note says why the parts of the module are not listed."""
    counted = both(Holds(run, torch.jit.script(make())), X)
    assert flops_of(counted) == {"": SQUARE, "part": SQUARE if make is Chooses else 0}
    assert OPAQUE in counted.notes
    assert counted.params == 16 * (2 if make is Chooses else 1)


class Forks(nn.Module):
    """A model that runs one of its parts on another thread of TorchScript."""

    def __init__(self):
        super().__init__()
        self.first, self.second = square(), square()

    def forward(self, x):
        return torch.jit.wait(torch.jit.fork(self.first, x)) + self.second(x)


def test_forks():
    counted = measure(torch.jit.script(Forks()), X)
    assert "first" not in counted.modules
    assert OPAQUE in counted.notes
    assert counted.flops == 2 * SQUARE


@WAYS
def test_watched(way):
    """If a watched test calls scripted modules, a note says why the parts of these modules are not listed."""
    model = nn.Sequential(square(), made(Block(), way))
    with watch() as watched:
        model(X)
    assert flops_of(watched.complexity) == {"": 3 * SQUARE, "0": SQUARE, "1": 2 * SQUARE}
    assert watched.complexity.params == 48
    assert watched.complexity.notes == (OPAQUE,)


def test_watched_part():
    scripted = torch.jit.script(Block())
    with watch() as watched:
        scripted.first(X)
    assert watched.complexity.flops == SQUARE
    assert not watched.complexity.notes


def test_frozen():
    """A frozen TorchScript module has no submodules, so none is listed."""
    frozen = torch.jit.freeze(torch.jit.script(Block().eval()))
    assert list(measure(frozen, X).modules) == [""]


def test_the_original_is_unchanged():
    scripted = torch.jit.script(Model())
    before = str(scripted.graph), str(scripted.block.graph)
    both(scripted, X)
    assert (str(scripted.graph), str(scripted.block.graph)) == before
