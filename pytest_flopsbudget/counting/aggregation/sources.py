"""Find where the classes of a model are defined, for classes of the project under test."""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch

from pytest_flopsbudget.results.data import Source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flopsbudget.counting.tracing.nodes import Node

#: The root folder of the project. Without one, the folder in which a measurement is made is used.
_project: list[Path] = []
#: Class → (absolute path of the file, line) of its definition; None if no file defines the class.
_known: WeakKeyDictionary[type, tuple[Path, int] | None] = WeakKeyDictionary()
#: Folders with installed libraries.
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_CLASS = re.compile(r"^[ \t]*class[ \t]+(\w+)", re.MULTILINE)


def use_project(root: Path) -> None:
    """Write paths of files relative to this root folder from now on."""
    _project[:] = [root]


def sources_of(nodes: Iterable[Node]) -> dict[str, Source]:
    """Return name of a class → where it is defined, for the modules' classes that the project defines.

    A name is left out if classes of several places have it. A class that PyTorch derives from a class of the project,
    for example for parametrizations, counts as the class of the project.
    """
    root = (_project[0] if _project else Path.cwd()).resolve()
    found: dict[str, set[Source | None]] = {}
    for name, one in {(node.type, type(node.module)) for node in nodes if node.module is not None}:
        found.setdefault(name, set()).add(_source(one, root))
    return {name: one for name, (one, *others) in sorted(found.items()) if one is not None and not others}


def _source(derived: type, root: Path) -> Source | None:
    for one in derived.__mro__:
        if one is torch.nn.Module:
            break
        if one not in _known:
            _known[one] = _definition(one)
        place = _known[one]
        if place is not None and place[0].is_relative_to(root) and _INSTALLED.isdisjoint(place[0].parts):
            return Source(type=one.__name__, file=place[0].relative_to(root).as_posix(), line=place[1])
    return None


def _definition(one: type) -> tuple[Path, int] | None:
    name = getattr(sys.modules.get(one.__module__), "__file__", None)
    if not isinstance(name, str):
        return None
    file = Path(name).resolve()
    try:
        lines = _lines_of_classes(file, file.stat().st_mtime_ns).get(one.__name__, ())
    except OSError:
        return None
    if len(lines) > 1:
        # Several functions of a file may define a class of this name. Its methods follow its definition.
        codes = [code for part in vars(one).values() if (code := getattr(part, "__code__", None)) is not None]
        starts = [code.co_firstlineno for code in codes if Path(code.co_filename).resolve() == file]
        lines = tuple(line for line in lines if starts and line <= min(starts))
    return file, lines[-1] if lines else 0


@lru_cache(maxsize=16)
def _lines_of_classes(file: Path, _changed: int) -> dict[str, tuple[int, ...]]:
    """Return name of a class → the lines of a Python file that define such a class.

    The time at which the file was changed is part of the key of the cache.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    found: dict[str, tuple[int, ...]] = {}
    for match in _CLASS.finditer(text):
        line = text.count("\n", 0, match.start(1)) + 1
        found[match[1]] = (*found.get(match[1], ()), line)
    return found
