"""Models with chains of objects that are longer than Python's recursion limit."""

from __future__ import annotations

import collections
import dataclasses
import functools
import sys
import weakref
from typing import NamedTuple

import pytest
import torch
from torch import nn

from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.counting.tensors.traversal import iterate_tensors

X = torch.ones(1, 8)
SQUARE = 2 * 8 * 8
DEPTH = 2 * sys.getrecursionlimit()


class Link:
    def __init__(self, before):
        self.before = before

    def method(self):
        return self.before


class Slotted:
    __slots__ = ("before",)

    def __init__(self, before):
        self.before = before


@dataclasses.dataclass(frozen=True)
class Frozen:
    before: object


class ListOf(list):
    pass


class DictOf(dict):
    pass


class Hiding(nn.Module):
    """A module that holds another module in a tuple, so that PyTorch does not list it as a submodule."""

    def __init__(self, before):
        super().__init__()
        self.before = (before,)


class Pair(NamedTuple):
    first: object
    second: object


class Named:
    def __init__(self, before, name):
        self.before, self.name = before, name

    def __hash__(self):
        return hash(self.name)

    def __eq__(self, other):
        return isinstance(other, Named) and self.name == other.name


def closing(before):
    def closure():
        return before

    return closure


def attribute(before):
    tensor = torch.zeros(2)
    tensor.before = before
    return tensor


LINKS = {
    "objects": Link,
    "slots": Slotted,
    "frozen dataclasses": Frozen,
    "lists": lambda before: [before],
    "tuples": lambda before: (before, 1),
    "named tuples": lambda before: Pair(before, 1),
    "dicts": lambda before: {"before": before},
    "ordered dicts": lambda before: collections.OrderedDict(before=before),
    "default dicts": lambda before: collections.defaultdict(list, before=before),
    "deques": lambda before: collections.deque([before]),
    "lists of a class": lambda before: ListOf([before]),
    "dicts of a class": lambda before: DictOf(before=before),
    "objects in lists in dicts in tuples": lambda before: Link([{"before": (before,)}]),
    "sets": lambda before: [{Link(1)}, before],
    "keys": lambda before: {Named(before, "a"): before},
    "modules in tuples": Hiding,
    "methods": lambda before: Link(before).method,
    "closures": closing,
    "partial functions": lambda before: functools.partial(print, before),
    "weak references": lambda before: [before, weakref.ref(Link(before))],
    "attributes of tensors": attribute,
}


def chain(name):
    link = torch.zeros(3)
    for _ in range(DEPTH):
        link = LINKS[name](link)
    return link


@pytest.mark.parametrize("name", LINKS)
def test_chain(name):
    layer, link = nn.Linear(8, 8), chain(name)

    class Holder(nn.Module):
        def __init__(self, held):
            super().__init__()
            self.layer, self.held = layer, held

        def forward(self, x, *_links):
            return self.layer(x)

    def function(x):
        assert link is not None
        return layer(x)

    assert measure(Holder(link), X).flops == SQUARE
    assert measure(Holder(None), (X, link)).flops == SQUARE
    assert measure(function, X).flops == SQUARE


def test_a_circle_of_objects():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)
            first, second = Link(None), Link(None)
            first.before = (second, [first], {"second": second}, functools.partial(max, second), second.method)
            second.before = {Named(first, "first"): first, "model": self}
            self.first, self.second = first, second

        def forward(self, x):
            first, second = self.first, self.second
            assert first.before[0] is second
            assert first.before[1][0] is first
            assert first.before[2]["second"] is second
            assert first.before[3].args[0] is second
            assert first.before[4].__self__ is second
            assert second.before["model"] is self
            assert second.before[Named(None, "first")] is first
            return self.layer(x)

    assert measure(Model(), X).flops == SQUARE


def test_keys_are_found():
    """If the hash of a key depends on its attributes, the clone of a dict still finds the key."""
    keys = [Named(None, name) for name in "bca"]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = {key: number for number, key in enumerate(keys)}
            self.members = set(keys)
            self.keys = list(keys)
            self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in keys])

        def forward(self, x):
            assert list(self.table) == self.keys
            assert self.members == set(self.keys)
            for key in self.keys:
                x = self.layers[self.table[key]](x)
            return x

    assert measure(Model(), X).flops == 3 * SQUARE


def test_the_model_is_the_end_of_the_chain():
    """If a model reaches a layer only through a long chain of objects, the layer is cloned."""
    norm = nn.BatchNorm1d(8)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = Link(norm)
            for _ in range(DEPTH):
                self.last = Link(self.last)

        def forward(self, x):
            link = self.last
            while isinstance(link, Link):
                link = link.before
            return link(x)

    counted = measure(Model(), torch.randn(4, 8))
    assert counted.other_flops > 0
    assert counted.execution == "shapes"
    assert int(norm.num_batches_tracked) == 0


@pytest.mark.parametrize("name", ["objects", "lists", "tuples", "dicts", "named tuples", "slots", "frozen dataclasses"])
def test_tensors_at_the_end(name):
    last = chain(name)
    assert [tensor.shape for tensor in iterate_tensors(last)] == [(3,)]
    other = torch.zeros(4)
    assert [tensor.shape for tensor in iterate_tensors([other, last, other])] == [(4,), (3,), (4,)]


def test_tensors_in_a_circle():
    circle = [torch.zeros(2)]
    circle += [circle, torch.zeros(3)]
    assert [tensor.shape for tensor in iterate_tensors(circle)] == [(2,), (3,)]
    assert [tensor.shape for tensor in iterate_tensors((circle, circle))] == [(2,), (3,), (2,), (3,)]
