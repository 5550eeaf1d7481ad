"""Caches that a model reaches only through several imports or objects."""

from __future__ import annotations

import contextvars
import importlib
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from pytest_flopsbudget import UsageError, measure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

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
    """Yield a module that imports the module with the caches."""
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
    """If a cache is two imports away from the model, the model has the same count in each measurement."""
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
    """If a cache in a library is two imports away, the measurement fails and names the place of the cache."""
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
    """If a model keeps a tensor in a context variable, the measurement fails and names the place of the tensor."""

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            VARIABLE.set(x + 1)
            return x

    context = contextvars.copy_context()
    with pytest.raises(UsageError, match="a context variable"):
        context.run(measure, Model(), torch.ones(3))
