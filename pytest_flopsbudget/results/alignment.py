"""Align the children of lists of modules. Their names are numbers, so a new child shifts the names of later ones."""

from __future__ import annotations

import difflib
import itertools
from typing import TYPE_CHECKING, NamedTuple

from pytest_flopsbudget.results.folding import is_number, natural_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flopsbudget.results.data import Module

#: The end of the name of a removed child if another child has its old name now.
BEFORE = " (before)"


class Shift(NamedTuple):
    """A list of modules that only gained and lost children."""

    #: The old paths of the children that were removed.
    removed: tuple[str, ...]
    #: The new paths of the children that were added.
    added: tuple[str, ...]
    #: Old path → new path of all other children. Their classes and settings are equal on both sides.
    kept: Mapping[str, str]


def find_shifts(old: Mapping[str, Module], new: Mapping[str, Module]) -> dict[str, Shift]:
    """Return path of a list of modules → its changes, for each list in which the names of children shifted.

    Lists inside of the children of such a list are not compared.
    """
    found: dict[str, Shift] = {}
    old_lists, new_lists = _lists(old), _lists(new)
    for parent in sorted(old_lists, key=len):
        before, after = old_lists[parent], new_lists.get(parent, [])
        if not after or before == after or any(f"{parent}.".startswith(f"{one}.") or not one for one in found):
            continue
        sides = [_signature(path, old) for path in before], [_signature(path, new) for path in after]
        shorter = min(map(len, sides))
        if sides[0][:shorter] == sides[1][:shorter]:
            # Children at the end of a list shift no names.
            continue
        steps = _steps(*sides)
        if len(before) == len(after) or any(step == "replace" for step, *_ in steps):
            continue
        removed: list[str] = []
        added: list[str] = []
        kept: dict[str, str] = {}
        for step, first, last, new_first, new_last in steps:
            if step == "equal":
                kept.update(zip(before[first:last], after[new_first:new_last], strict=True))
            else:
                removed += before[first:last]
                added += after[new_first:new_last]
        found[parent] = Shift(tuple(removed), tuple(added), kept)
    return found


def aligned(old: Mapping[str, Module], new: Mapping[str, Module]) -> Mapping[str, Module]:
    """Return the modules of ``old`` at the paths that they have in ``new``, as far as lists of modules shifted.

    A removed module keeps its path. If another module has this path now, `BEFORE` is added to its name.
    """
    moved: dict[str, str] = {}
    for shift in find_shifts(old, new).values():
        moved |= shift.kept
        moved |= {path: f"{path}{BEFORE}" for path in shift.removed if path in new}
    if not moved:
        return old
    return {_moved(path, moved): module for path, module in old.items()}


def _moved(path: str, moved: Mapping[str, str]) -> str:
    above = path
    while above:
        if above in moved:
            return moved[above] + path[len(above) :]
        above = above.rpartition(".")[0]
    return path


def _steps(before: Sequence[object], after: Sequence[object]) -> list[tuple[str, int, int, int, int]]:
    """Return the steps from one sequence to the other, as difflib does, with as much as possible equal at both ends.

    Most lists are of equal layers. In them, difflib pairs the first longest run, and may call a layer that is the same
    on both sides removed and added.
    """
    start = _equal_at_start(before, after)
    rest = before[start:], after[start:]
    end = _equal_at_start(rest[0][::-1], rest[1][::-1])
    middle = [side[: len(side) - end] for side in rest]
    steps = difflib.SequenceMatcher(None, middle[0], middle[1], autojunk=False).get_opcodes()
    found = [("equal", 0, start, 0, start)]
    found += [(step, a + start, b + start, c + start, d + start) for step, a, b, c, d in steps]
    found.append(("equal", len(before) - end, len(before), len(after) - end, len(after)))
    return found


def _equal_at_start(before: Sequence[object], after: Sequence[object]) -> int:
    pairs = zip(before, after, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _lists(modules: Mapping[str, Module]) -> dict[str, list[str]]:
    """Return parent → its children in order, for each module whose children are all named by numbers."""
    children: dict[str, list[str]] = {}
    for path in modules:
        if path:
            children.setdefault(path.rpartition(".")[0], []).append(path)
    return {
        parent: sorted(paths, key=natural_key)
        for parent, paths in children.items()
        if all(is_number(path.rpartition(".")[2]) for path in paths)
    }


def _signature(top: str, modules: Mapping[str, Module]) -> tuple[tuple[str, str, str], ...]:
    """Return the paths, classes and settings of a module and of all modules below it, in the order of the paths.

    Baselines sort modules by their paths; a measurement has them in the order in which the model lists them.
    """
    return tuple(
        sorted(
            (path[len(top) :], module.type, module.shape)
            for path, module in modules.items()
            if f"{path}.".startswith(f"{top}.")
        )
    )
