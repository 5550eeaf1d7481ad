"""Caches that a model reaches only through several imports or objects."""

from __future__ import annotations

import contextvars
import functools
import gc
import importlib
import re
import sys
import textwrap
from collections import deque
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from pytest_flopsbudget import UsageError, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: A module of helper functions, each of which replaces or fills a cache of its own kind.
FAR = """
import torch


class Tables:
    table = None

    @classmethod
    def get(cls, n):
        if cls.table is None:
            cls.table = torch.ones(n, n).tril()
        return cls.table


ITEMS = [torch.ones(1, 1)]
NAMES = {"table": None}
DEEP = {"a": {"b": {"c": {"d": {}}}}}
BIG = {i: i for i in range(300)} | {"table": [None]}
TABLE = None


def in_class(n):
    return Tables.get(n)


def in_list(n):
    if ITEMS[0].shape[0] < n:
        ITEMS[0] = torch.ones(n, n).tril()
    return ITEMS[0]


def in_dict(n):
    if NAMES["table"] is None:
        NAMES["table"] = torch.ones(n, n).tril()
    return NAMES["table"]


def in_deep_dict(n):
    tables = DEEP["a"]["b"]["c"]["d"]
    if n not in tables:
        tables[n] = torch.ones(n, n).tril()
    return tables[n]


def in_big_dict(n):
    if BIG["table"][0] is None:
        BIG["table"][0] = torch.ones(n, n).tril()
    return BIG["table"][0]


def in_global(n):
    global TABLE
    if TABLE is None:
        TABLE = torch.ones(n, n).tril()
    return TABLE
"""

NEAR = """
import far_tables


def table(way, n):
    return getattr(far_tables, way)(n)
"""


@pytest.fixture
def folder_name() -> str:
    return "project"


@pytest.fixture
def near(folder_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Yield the Python module near_tables, which imports the module far_tables with the caches."""
    folder = tmp_path / folder_name
    folder.mkdir()
    (folder / "far_tables.py").write_text(textwrap.dedent(FAR))
    (folder / "near_tables.py").write_text(textwrap.dedent(NEAR))
    monkeypatch.syspath_prepend(folder)
    yield importlib.import_module("near_tables")
    for name in ("far_tables", "near_tables"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("way", ["in_class", "in_list", "in_dict", "in_deep_dict", "in_big_dict", "in_global"])
def test_two_imports_away(near: ModuleType, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(sys.modules[__name__], "near_tables", near, raising=False)

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return near_tables.table(way, x.shape[0]) @ x  # type: ignore[name-defined,no-any-return] # noqa: F821

    model, x = Model(), torch.ones(3, 8)
    results = [measure(model, x) for _ in range(3)]
    assert [result.flops for result in results] == [2 * 3 * 3 * 8] * 3
    assert results[0] == results[1] == results[2]
    assert torch.equal(model(x), torch.ones(3, 3).tril() @ x)


@pytest.mark.parametrize("folder_name", ["site-packages"])
@pytest.mark.parametrize(("way", "place"), [("in_class", "Tables, attribute 'table'"), ("in_global", "'TABLE'")])
def test_two_imports_away_in_a_library(
    near: ModuleType, monkeypatch: pytest.MonkeyPatch, way: str, place: str, folder_name: str
) -> None:
    assert folder_name in str(near.__file__)
    monkeypatch.setattr(sys.modules[__name__], "near_tables", near, raising=False)

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return near_tables.table(way, x.shape[0]) @ x  # type: ignore[name-defined,no-any-return] # noqa: F821

    x = torch.ones(3, 8)
    with pytest.raises(UsageError, match=place):
        measure(Model(), x)
    assert torch.equal(Model()(x), torch.ones(3, 3).tril() @ x)


VARIABLE: contextvars.ContextVar[Tensor | None] = contextvars.ContextVar("table", default=None)


def test_a_context_variable_is_named() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            VARIABLE.set(x + 1)
            return x

    context = contextvars.copy_context()
    with pytest.raises(UsageError, match="a context variable"):
        context.run(measure, Model(), torch.ones(3))


class Box:
    """An object that keeps a tensor in ``kept``. Without a tensor, ``kept`` is None."""

    kept: Any = None


def hidden() -> Any:
    """Return the Python module hidden_tables, to which no variable of this file refers."""
    return sys.modules["hidden_tables"]


@pytest.fixture
def hidden_tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = ModuleType("hidden_tables")
    vars(module).update(items=[], many=deque(), unique=set(), names={}, box=Box(), boxes={"inner": Box()})
    monkeypatch.setitem(sys.modules, "hidden_tables", module)
    return module


#: Name → (code that keeps a tensor in a place that only the garbage collector finds, code that reads this place).
HIDDEN: dict[str, tuple[Callable[[Tensor], Any], Callable[[], Any]]] = {
    "a list": (lambda x: hidden().items.extend([x]), lambda: hidden().items),
    "a deque": (lambda x: hidden().many.extend([x]), lambda: hidden().many),
    "a set": (lambda x: hidden().unique.update({x}), lambda: hidden().unique),
    "a dict": (lambda x: hidden().names.update(table=x), lambda: hidden().names),
    "a list of dicts in a dict": (lambda x: hidden().names.update(table=[{"x": x}]), lambda: hidden().names),
    "an attribute": (lambda x: setattr(hidden().box, "kept", x), lambda: hidden().box.kept),
    "a list in an attribute": (
        lambda x: setattr(hidden().boxes["inner"], "kept", [x]),
        lambda: hidden().boxes["inner"].kept,
    ),
}

#: Name → what the model does after and before it keeps the tensor.
COLLECTIONS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "after": (lambda: None, gc.collect),
    "before": (gc.collect, lambda: None),
    "young ones": (lambda: gc.collect(0), lambda: gc.collect(1)),
    "twice": (gc.collect, lambda: (gc.collect(), gc.collect())),
    "automatic": (gc.enable, lambda: ([SimpleNamespace(number=[i]) for i in range(3000)], gc.disable())),
}


@pytest.mark.usefixtures("only_new_objects_of_class", "hidden_tables")
class TestAModelThatCollectsGarbage:
    @pytest.mark.parametrize("place", HIDDEN)
    def test_place(self, place: str) -> None:
        measure_a_model_that_collects_garbage(place, "before", reads_data=False)

    @pytest.mark.parametrize("collection", [name for name in COLLECTIONS if name != "before"])
    def test_collection(self, collection: str) -> None:
        measure_a_model_that_collects_garbage("a list", collection, reads_data=False)


# This test is outside of the class: a run on data finds its new objects only if the garbage collector ignores none.
@pytest.mark.usefixtures("hidden_tables")
def test_a_model_that_reads_data_and_collects_garbage() -> None:
    measure_a_model_that_collects_garbage("a set", "before", reads_data=True)


def measure_a_model_that_collects_garbage(place: str, collection: str, *, reads_data: bool) -> None:
    keep, read = HIDDEN[place]
    before, after = COLLECTIONS[collection]

    class Model(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            before()
            keep(x.detach() * 1)
            after()
            return x * x.sum().item() if reads_data else x

    model = Model(8, 4)
    results = [measure(model, torch.ones(3, 8)) for _ in range(2)]
    assert [result.macs for result in results] == [3 * 8 * 4] * 2
    assert not read()


def tables_in(cache: Any) -> Callable[..., Tensor]:
    """Return a function without a closure that keeps a tensor in ``cache``, the default value of its argument."""

    def in_dict(n: int, cache: Any = cache) -> Tensor:
        if n not in cache:
            cache[n] = torch.ones(n, n) @ torch.ones(n, n)
        return cache[n]  # type: ignore[no-any-return]

    def in_object(n: int, cache: Any = cache) -> Tensor:
        if not hasattr(cache, "table"):
            cache.table = torch.ones(n, n) @ torch.ones(n, n)
        return cache.table  # type: ignore[no-any-return]

    def in_list(n: int, *, cache: Any = cache) -> Tensor:
        if not cache:
            cache.append(torch.ones(n, n) @ torch.ones(n, n))
        return cache[0]  # type: ignore[no-any-return]

    return {dict: in_dict, list: in_list}.get(type(cache), in_object)


class Lazy(nn.Module):
    """A module that makes its attributes ``table``, ``head`` and ``state`` when they are first read."""

    def __init__(self, part: str, **attributes: Any) -> None:
        super().__init__()
        self.part = part
        for name, value in attributes.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name == "table":
            self.__dict__[name] = torch.ones(8, 8) @ torch.ones(8, 8)
        elif name == "head":
            self._modules[name] = nn.Linear(8, 8, bias=False)
        elif name == "state":
            self._buffers[name] = torch.ones(8, 8) @ torch.ones(8, 8)
        return self.__dict__[name] if name in self.__dict__ else super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        part = getattr(self, self.part)
        if isinstance(part, Tensor):
            return x @ part
        return part(x) if isinstance(part, nn.Module) else x @ part(8)  # type: ignore[no-any-return]


#: Name → (model, MACs by hand: of (3, 8) and (8, 8), and of the table where the model computes one).
FILLED_ON_USE = {
    "attribute": (lambda: Lazy("table"), 3 * 64 + 512),
    "module": (lambda: Lazy("head"), 3 * 64),
    "buffer": (lambda: Lazy("state"), 3 * 64 + 512),
    "default dict": (lambda: Lazy("make", make=tables_in({})), 3 * 64 + 512),
    "default list": (lambda: Lazy("make", make=tables_in([])), 3 * 64 + 512),
    "default object": (lambda: Lazy("make", make=tables_in(Box())), 3 * 64 + 512),
    "partial": (lambda: Lazy("make", make=functools.partial(tables_in(Box()))), 3 * 64 + 512),
}


@pytest.mark.parametrize("reads_data", [False, True])
@pytest.mark.parametrize("name", FILLED_ON_USE)
def test_parts_that_are_filled_on_use(name: str, reads_data: bool) -> None:
    """If a model fills an attribute or a cache on first use, a measurement leaves the model unchanged."""
    make, macs = FILLED_ON_USE[name]
    model = make()
    before = {key: list(value) if isinstance(value, dict) else value for key, value in vars(model).items()}
    step = (lambda x: model(x).sum().item()) if reads_data else model
    assert [measure(step, torch.ones(3, 8)).macs for _ in range(2)] == [macs] * 2
    assert before == {key: list(value) if isinstance(value, dict) else value for key, value in vars(model).items()}
    assert model(torch.ones(3, 8)).device.type == "cpu"


def running_sum() -> Any:
    """Return a generator that yields the sum of all tensors that were sent to it."""

    def adds() -> Any:
        total: Any = None
        while True:
            value = yield total
            total = value if total is None else total + value

    generator = adds()
    next(generator)
    return generator


def sender(generator: Any) -> Callable[[Tensor], Tensor]:
    def send(x: Tensor) -> Tensor:
        return generator.send(x)  # type: ignore[no-any-return]

    return send


class Sums(nn.Linear):
    """A module that sends its output to a generator."""

    def __init__(self, held: Any, send: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__(8, 8)
        self.held, self.send = held, send

    def forward(self, x: Tensor) -> Tensor:
        return self.send(self.held, super().forward(x))


#: Name → a model that keeps a tensor in a generator.
GENERATORS: dict[str, Callable[[], nn.Module]] = {
    "of the model": lambda: Sums(running_sum(), lambda held, x: held.send(x)),
    "in a list": lambda: Sums({"all": [running_sum()]}, lambda held, x: held["all"][0].send(x)),
    "in a closure": lambda: Sums(sender(running_sum()), lambda held, x: held(x)),
    "outside": lambda: Sums(None, lambda _, x: hidden().box.kept.send(x)),
}


@pytest.mark.parametrize("reads_data", [False, True])
@pytest.mark.parametrize("place", GENERATORS)
def test_a_generator_is_named(place: str, reads_data: bool, hidden_tables: Any) -> None:
    hidden_tables.box.kept = running_sum()
    model = GENERATORS[place]()
    step = (lambda x: model(x).sum().item()) if reads_data else model
    reached = "takes an item from an iterator that cannot be copied (generator 'running_sum.<locals>.adds')"
    kept = "left a tensor of the measurement in the generator adds, which still holds"
    with pytest.raises(UsageError, match=re.escape(kept if place == "outside" else reached)):
        measure(step, torch.ones(2, 8))


def test_a_generator_without_tensors() -> None:
    model = Sums((number for number in range(1, 9)), lambda held, x: x * next(held))
    with pytest.raises(UsageError, match="would use up the item"):
        measure(model, torch.ones(2, 8))
    assert next(model.held) == 1
