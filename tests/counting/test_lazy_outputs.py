"""If a model returns a generator, a lazy iterator or a coroutine, its work is counted too."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools

import pytest
import torch
from torch import nn
from zoo import both, timed

from pytest_flopsbudget.counting.lazy_outputs import MAX_ITEMS
from pytest_flopsbudget.counting.measure import measure

X = torch.randn(3, 4)
#: FLOPs of a square linear layer on `X`.
SQUARE = 2 * 3 * 4 * 4


class Runs(nn.Module):
    """A module that passes its layer and its input to a given function."""

    def __init__(self, function):
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        self.function = [function]

    def forward(self, x):
        return self.function[0](self.layer, x)


def generator(layer, x):
    for _ in range(3):
        x = layer(x)
        yield x


def nested(layer, x):
    for _ in range(3):
        yield (layer(x) for _ in range(1))


def delegating(layer, x):
    yield from generator(layer, x)


def returning(layer, x):
    yield layer(x)
    yield layer(x)
    return layer(x)


async def coroutine(layer, x):
    async def step(x):
        await asyncio.sleep(0)
        return layer(x)

    return await step(await step(await step(x)))


async def async_generator(layer, x):
    for _ in range(3):
        await asyncio.sleep(0)
        yield layer(x)


LAZY = {
    "generator": generator,
    "generator expression": lambda layer, x: (layer(x) for _ in range(3)),
    "generators in a generator": nested,
    "yield from": delegating,
    "returned value": returning,
    "map": lambda layer, x: map(layer, [x] * 3),
    "filter": lambda layer, x: filter(lambda part: layer(part) is not None, [x] * 3),
    "zip": lambda layer, x: zip(map(layer, [x] * 3), range(3), strict=True),
    "enumerate": lambda layer, x: enumerate(map(layer, [x] * 3)),
    "chain": lambda layer, x: itertools.chain(map(layer, [x] * 2), map(layer, [x])),
    "in a tuple": lambda layer, x: (generator(layer, x), x),
    "in a dict": lambda layer, x: {"steps": generator(layer, x)},
    "in a list": lambda layer, x: [map(layer, [x]), map(layer, [x, x])],
    "coroutine": coroutine,
    "async generator": async_generator,
}


@pytest.mark.parametrize("name", LAZY)
def test_counted(name):
    counted = both(Runs(LAZY[name]), X)
    assert counted.flops == 3 * SQUARE
    assert (counted["layer"].flops, counted["layer"].calls) == (3 * SQUARE, 3)


@pytest.mark.parametrize("name", ["generator", "map", "in a tuple"])
def test_functions_and_notes(name):
    """If a measured function returns a lazy output, a note says how many items were used."""
    layer = nn.Linear(4, 4, bias=False)
    counted = measure(lambda x: LAZY[name](layer, x), X)
    assert counted.flops == 3 * SQUARE
    assert "the output is an iterator: the work of all its items (3) is counted" in counted.notes


def test_a_part_that_is_a_generator():
    """If a module's forward is a generator, the work of the generator is credited to this module."""

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4))

        def forward(self, x):
            for _ in range(3):
                factor = yield x @ self.weight
                x = x * factor

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.part, self.layer = Part(), nn.Linear(4, 4, bias=False)

        def forward(self, x):
            steps = self.part(x)
            y = self.layer(next(steps))
            y = self.layer(steps.send(2))
            y = y + steps.send(3)
            with pytest.raises(StopIteration):
                steps.send(4)
            return y

    counted = both(Model(), X)
    assert counted["part"].flops == 3 * SQUARE
    assert counted["part"].other_flops == 3 * X.numel()
    assert counted["layer"].flops == 2 * SQUARE
    assert counted.flops == 5 * SQUARE


def test_exceptions_in_a_part():
    """Exceptions pass between a generator and its caller in both directions."""

    def catching(layer, x):
        try:
            yield layer(x)
        except KeyError:
            yield layer(x)
        try:
            yield x
        finally:
            layer(x)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = Runs(catching)

        def forward(self, x):
            steps = self.part(x)
            next(steps)
            steps.throw(KeyError())
            next(steps)
            steps.close()
            return x

    counted = measure(Model(), X)
    assert counted["part.layer"].calls == 3

    def failing(layer, x):
        yield layer(x)
        raise KeyError("from the model")

    with pytest.raises(KeyError, match="from the model"):
        measure(Runs(failing), X)


def test_items_end():
    def steps(count):
        def forward(layer, x):
            for _ in range(count):
                yield layer(x)

        return both(Runs(forward), X)

    assert steps(3).peak_memory == steps(30).peak_memory


def test_backward():
    """The backward pass starts from every tensor that a generator yields."""
    counted = both(Runs(lambda layer, x: (layer(x) for _ in range(3))), X, backward=True)
    assert counted.flops == 6 * SQUARE


def test_without_an_end():
    """If a generator has no end, its first items are counted up to a limit, and a note says so."""

    def forever(layer, x):
        while True:
            yield layer(x)

    counted = measure(Runs(forever), X)
    assert counted.flops == MAX_ITEMS * SQUARE
    assert counted.notes == (f"the output is an iterator: only the work of its first {MAX_ITEMS:,} items is counted",)


class Waiting:
    """An object that a coroutine can await, but that a measurement cannot handle."""

    def __await__(self):
        yield self


class Custom:
    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration


def test_named():
    """If a coroutine or an iterator cannot be run to its end, a note says so."""

    async def waiting(layer, x):
        y = layer(x)
        await Waiting()
        return layer(y)

    counted = measure(Runs(waiting), X)
    assert counted.flops == SQUARE
    assert any("a coroutine that waits for a Waiting" in note for note in counted.notes)
    counted = measure(Runs(lambda _layer, _x: Custom()), X)
    assert any("an iterator of the class Custom" in note for note in counted.notes)


def test_ordinary_outputs_have_no_note():
    for output in (lambda layer, x: [layer(x)], lambda layer, x: {"y": layer(x)}, lambda layer, x: (layer(x), None)):
        assert measure(Runs(output), X).notes == ()


def test_timed():
    class Slow(nn.Module):
        def forward(self, x):
            COUNTED.append(1)
            yield x * 2

    COUNTED.clear()
    timed(Slow(), X)
    assert COUNTED


#: One entry per run of the generator in `test_timed`. It is global, because a timed run clones what functions hold.
COUNTED = []


@dataclasses.dataclass
class Output:
    items: object


@pytest.mark.parametrize(
    "wrap",
    [
        lambda items: (1, [items]),
        lambda items: {"outer": {"inner": items}},
        lambda items: [[{"a": (items,)}]],
        Output,
        lambda items: {"output": [Output([items])]},
    ],
)
def test_iterators_within_containers(wrap):
    layer = torch.nn.Linear(8, 8, bias=False)

    def forward(x):
        return wrap(layer(x) for _ in range(3))

    counted = measure(forward, torch.ones(1, 8))
    assert counted.flops == 3 * 2 * 8 * 8
    assert any("the work of all its items (3) is counted" in note for note in counted.notes)
