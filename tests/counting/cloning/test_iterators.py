"""A measurement takes no items from the iterators of a model, of its inputs and of the functions that it calls."""

from __future__ import annotations

import collections
import itertools
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pytest_flopsbudget import UsageError, measure
from pytest_flopsbudget.counting.watch import watch

pytestmark = pytest.mark.filterwarnings("ignore:Pickle, copy, and deepcopy support:DeprecationWarning")
#: Since Python 3.14, the iterators of itertools cannot be copied.
without_copies = pytest.mark.skipif(sys.version_info >= (3, 14), reason="itertools cannot be copied")


class Takes(nn.Module):
    """Repeats a product as often as the next item of its iterator says."""

    def __init__(self, numbers):
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        self.numbers = numbers

    def forward(self, x):
        for _ in range(int(next(self.numbers))):
            x = self.layer(x)
        return x


X = torch.ones(3, 4)
#: FLOPs of one product.
PRODUCT = 2 * 3 * 4 * 4


class Counts:
    """An iterator that keeps its position in an attribute."""

    def __init__(self):
        self.inner = iter([1, 2, 3])

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.inner)


class Cycle(itertools.cycle):
    """A subclass of an iterator that is defined in C."""


def taken(iterator, count=1):
    for _ in range(count):
        next(iterator)
    return iterator


#: Name → (a function that makes an iterator whose next items are 2 and 3, whether the iterator is from itertools).
COPIED = {
    "list": (lambda: taken(iter([1, 2, 3])), False),
    "tuple": (lambda: taken(iter((1, 2, 3))), False),
    "range": (lambda: iter(range(2, 4)), False),
    "text": (lambda: iter("23"), False),
    "bytes": (lambda: iter(bytes([2, 3])), False),
    "set": (lambda: iter({2, 3}), False),
    "dict": (lambda: taken(iter({1: 0, 2: 0, 3: 0})), False),
    "values": (lambda: taken(iter(collections.OrderedDict(a=1, b=2, c=3).values())), False),
    "deque": (lambda: taken(iter(collections.deque([1, 2, 3]))), False),
    "reversed": (lambda: taken(reversed([3, 2, 1])), False),
    "map": (lambda: map(int, taken(iter(["1", "2", "3"]))), False),
    "filter": (lambda: filter(None, taken(iter([1, 0, 2, 3]))), False),
    "map of zip": (lambda: map(sum, taken(zip([1, 1, 2], iter([0, 1, 1]), strict=True))), False),
    "enumerate": (lambda: map(max, taken(enumerate([0, 2, 3]))), False),
    "function": (lambda: iter(iter([2, 3]).__next__, 4), False),
    "own class": (lambda: taken(Counts()), False),
    "tee": (lambda: itertools.tee(number for number in (2, 3))[1], False),
    "count": (lambda: itertools.count(2), True),
    "cycle": (lambda: taken(itertools.cycle([1, 2, 3])), True),
    "cycle, second round": (lambda: taken(itertools.cycle([1, 2, 3]), 4), True),
    "chain": (lambda: taken(itertools.chain([1, 2], iter([3]))), True),
    "islice": (lambda: itertools.islice(iter([1, 2, 3]), 1, None), True),
    "accumulate": (lambda: taken(itertools.accumulate([1, 1, 1])), True),
    "subclass": (lambda: taken(Cycle([1, 2, 3])), True),
}


@pytest.mark.parametrize("way", ["shapes", "real"])
@pytest.mark.parametrize("name", COPIED)
def test_copied(name, way):
    """After two measurements, the model's iterator still has all its items."""
    make, of_itertools = COPIED[name]
    if of_itertools and sys.version_info >= (3, 14):
        pytest.skip("itertools cannot be copied")
    model = Takes(make()).requires_grad_(False)
    measured = model if way == "shapes" else lambda x: model(x[: int(x.sum() > 0) + 2])
    for _ in range(2):
        counted = measure(measured, X)
        assert (counted.flops, counted.execution) == (2 * PRODUCT, way)
    assert [int(next(model.numbers)) for _ in range(2)] == [2, 3]


@pytest.mark.parametrize("tensors", [list, tuple, collections.deque])
def test_tensors(tensors):
    """The items are cloned, so a measurement does not change them."""
    model = nn.Linear(4, 4)
    model.items = iter(tensors([torch.ones(3, 4), torch.ones(2, 4)]))
    assert measure(lambda: model(next(model.items).add_(1)), ()).flops == PRODUCT
    assert next(model.items).sum() == 3 * 4


def test_as_input():
    model = nn.Linear(4, 4, bias=False)
    batches = zip([X, X[:1]], [1, 2], strict=True)
    assert measure(lambda source: model(next(source)[0]), (batches,)).flops == PRODUCT
    assert len(list(batches)) == 2


NUMBERS = iter([1, 2])


def test_by_a_global_name():
    model = nn.Linear(4, 4, bias=False)

    def step(x):
        return model(x * next(NUMBERS))

    assert measure(step, X).flops == PRODUCT
    assert list(NUMBERS) == [1, 2]


@without_copies
def test_shared():
    """If two attributes hold the same iterator, they share it in the clone too."""
    model = Takes(itertools.cycle([1, 2]))
    model.other = [model.numbers]

    def run(x):
        next(model.other[0])
        return model(x)

    assert measure(run, X).flops == 2 * PRODUCT
    assert next(model.numbers) == 1


class OfTheClass(Takes):
    numbers = zip([2, 3], strict=True)

    def __init__(self):
        super().__init__(None)
        del self.numbers

    def forward(self, x):
        return self.layer(x) if next(self.numbers) == (2,) else x


@pytest.mark.parametrize("kind", [OfTheClass, type("Derived", (OfTheClass,), {})])
def test_of_a_class(kind):
    """An iterator that is a class attribute is copied too."""
    model = nn.Sequential(kind(), nn.Linear(4, 4, bias=False))
    assert [measure(model, X).flops for _ in range(2)] == [2 * PRODUCT] * 2
    assert list(vars(model[0])) == list(vars(kind()))


def numbers():
    yield from (2, 3)


def loader(**options):
    return iter(DataLoader(TensorDataset(torch.tensor([2, 2])), **options))


#: Name → (a function that makes an iterator that cannot be copied, the iterator's name in the message).
NOT_COPIED = {
    "generator": (numbers, r"generator 'numbers'"),
    "generator expression": (lambda: (number for number in (2, 3)), "genexpr"),
    "inside of map": (lambda: map(int, numbers()), r"generator 'numbers'"),
    "pairs": (lambda: itertools.pairwise([2, 3]), "pairwise"),
    "loader": (loader, "_SingleProcessDataLoaderIter"),
    "loader without batches": (lambda: loader(batch_size=None), "_SingleProcessDataLoaderIter"),
}


@pytest.mark.parametrize("name", NOT_COPIED)
def test_not_copied(name):
    """If an iterator cannot be copied, an error names it, and the iterator keeps its items."""
    make, described = NOT_COPIED[name]
    model = Takes(make())
    with pytest.raises(UsageError, match=f"cannot be copied .*{described}.*pass it as an input"):
        measure(model, X)
    assert list(map(str, model.numbers)) == list(map(str, make()))


def test_not_used():
    """A model may hold a generator that its forward does not use."""
    model = nn.Linear(4, 4, bias=False)
    model.generator = numbers()
    assert measure(model, X).flops == PRODUCT
    assert list(model.generator) == [2, 3]


def test_ended():
    """If a generator of the model has ended, the model can be measured."""
    model = nn.Linear(4, 4, bias=False)
    model.generator = numbers()
    assert list(model.generator) == [2, 3]
    assert measure(lambda x: model(x) if next(model.generator, 1) else x, X).flops == PRODUCT


def test_watched():
    model = Takes(numbers())
    with watch() as watched:
        model(X)
    assert watched.complexity.flops == 2 * PRODUCT
    assert list(model.numbers) == [3]
