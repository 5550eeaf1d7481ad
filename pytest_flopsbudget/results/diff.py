"""Two complexities → what grew: which modules, which operators, and from what to what."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec.structs import replace

from pytest_flopsbudget.quantities.metrics import count_of, metric_of, sort_metrics
from pytest_flopsbudget.results.folding import identities, is_number, natural_key, write_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from pytest_flopsbudget.results.complexity import Complexity, Module

Kind = Literal["changed", "added", "removed", "renamed"]

#: Bytes follow the parameters: where those grew, a second list of the same modules says nothing new.
_FOLLOWS = {"param_bytes": "params", "trainable_params": "params", "macs": "flops"}

_Segments = tuple[tuple[str, ...], ...]


class ModuleSnapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A module as it was before the change, or as it is after."""

    type: str
    shape: str
    calls: int
    #: The metric's value that the change is about: for a changed module its own, without what is below it; for a
    #: renamed one with everything below it; for an added or removed one with what is below it and was not moved.
    value: int


class ModuleChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One module, or several equal siblings, whose cost changed or moved."""

    #: Where it is now, or was if it is removed, as in folded paths: "layers.{0-31}.mlp".
    path: str
    #: What became of it.
    kind: Kind
    #: Where a renamed module was; empty for the others.
    old_path: str = ""
    #: How many modules the path stands for.
    count: int = 1
    #: The metric's growth, over all of them.
    change: int
    #: Each of them before; None where they are added.
    old: ModuleSnapshot | None
    #: Each of them after; None where they are removed.
    new: ModuleSnapshot | None


class OperatorChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator whose calls or cost changed; zeros where it did not run."""

    operator: str
    old_calls: int
    new_calls: int
    old: int
    new: int


class Diff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one metric's value changed, and through what. Both lists begin with the largest change."""

    metric: str
    old: int
    new: int
    #: Of a metric that adds up, the changes add up to the whole one.
    modules: tuple[ModuleChange, ...]
    #: Of a metric that operators have.
    operators: tuple[OperatorChange, ...]
    #: The old and the new signature of the inputs, where they differ.
    inputs_changed: tuple[tuple[str, ...], tuple[str, ...]] | None


def diff(old: Complexity, new: Complexity, metric: str = "flops") -> Diff:
    """Say through which modules and operators a metric's value changed.

    A module is told if its own part changed: its total without that of the modules below it. Of what was added or
    removed, the topmost module is told; what was removed in one place and added in another as it was is told as
    renamed.

    Args:
        old: The complexity before.
        new: The complexity after.
        metric: Key of a metric that both hold, stored or derived, and no ratio: a ratio is no sum of parts.

    Raises:
        KeyError: no such metric, or one of the two does not hold it.
    """
    return Diff(
        metric=metric,
        old=_total(old, metric),
        new=_total(new, metric),
        modules=_module_changes(old.modules, new.modules, metric),
        operators=_operator_changes(old, new, metric),
        inputs_changed=(old.inputs, new.inputs) if old.inputs != new.inputs else None,
    )


def _total(complexity: Complexity, metric: str) -> int:
    value = complexity.value(metric)
    if not isinstance(value, int):
        raise KeyError(f"metric {metric!r} is a ratio, and no sum of parts")
    return value


def metrics_to_show(metrics: Collection[str]) -> list[str]:
    """Those of ``metrics`` whose lists of modules say something that no other's says."""
    return [metric for metric in sort_metrics(metrics) if _FOLLOWS.get(metric) not in metrics]


def self_values(modules: Mapping[str, Module], metric: str) -> dict[str, int]:
    """Path → the part of the metric's value that does not come from the modules below it."""
    return _Tree(modules, metric).self_values(metric)


def shape_change(old_shape: str, new_shape: str) -> tuple[str, str]:
    """What differs between two shapes: their parts that do or, where the numbers of parts differ, both as they are.

    "512->512, 3x3" and "512->512, 5x5" give "3x3" and "5x5".
    """
    old_parts, new_parts = old_shape.split(", "), new_shape.split(", ")
    if len(old_parts) != len(new_parts):
        return old_shape, new_shape
    differing = [pair for pair in zip(old_parts, new_parts, strict=True) if pair[0] != pair[1]]
    return ", ".join(old for old, _ in differing), ", ".join(new for _, new in differing)


class _Tree:
    """The modules of one side, with one metric's values."""

    def __init__(self, modules: Mapping[str, Module], metric: str) -> None:
        self.modules = modules
        self.totals = {path: count_of(module.metrics, metric) or 0 for path, module in modules.items()}
        self.parents = {path: next((up for up in _above(path) if up in modules), None) for path in modules}

    def snapshot(self, path: str, value: int) -> ModuleSnapshot:
        module = self.modules[path]
        return ModuleSnapshot(module.type, module.shape, module.calls, value)

    def self_values(self, metric: str) -> dict[str, int]:
        """Path → the part of its value that does not come from the modules below it."""
        aggregation = metric_of(metric).aggregation
        below = dict.fromkeys(self.modules, 0)
        for path, parent in self.parents.items():
            if parent is not None:
                total = self.totals[path]
                below[parent] = max(below[parent], total) if aggregation == "peak" else below[parent] + total
        own = {path: total - below[path] for path, total in self.totals.items()}
        # What two children share counts once in their parent: the rest may seem negative.
        return own if aggregation == "sum" else {path: max(0, value) for path, value in own.items()}

    def topmost(self, paths: Collection[str]) -> list[str]:
        """Those of ``paths`` whose parent is not among them."""
        return [path for path in paths if self.parents[path] not in paths]


class _Change(msgspec.Struct, frozen=True):
    """A change of one module, without its path: what has to be equal for siblings to be told at once."""

    kind: Kind
    change: int
    old: ModuleSnapshot | None
    new: ModuleSnapshot | None
    #: Of a renamed module: how many segments its paths have in common, and the other segments of the old one.
    common: int = 0
    old_rest: tuple[str, ...] = ()


def _module_changes(
    old_modules: Mapping[str, Module], new_modules: Mapping[str, Module], metric: str
) -> tuple[ModuleChange, ...]:
    if any(modules and not _held(modules, metric) for modules in (old_modules, new_modules)):
        return ()
    old, new = _Tree(old_modules, metric), _Tree(new_modules, metric)
    # Dicts, since they keep their order.
    removed = {path: old.totals[path] for path in old.modules if path not in new.modules}
    added = {path: new.totals[path] for path in new.modules if path not in old.modules}
    moves = _moves(old, new, removed, added)
    changes = [
        *_changed(old, new, metric),
        *((path, _renamed(old, new, source, path)) for source, path in moves.items()),
        *_unmatched(old, "removed", removed, moves.keys()),
        *_unmatched(new, "added", added, moves.values()),
    ]
    changes.sort(key=lambda change: natural_key(change[0]))
    return tuple(sorted(_folded(changes), key=lambda change: -abs(change.change)))


def _held(modules: Mapping[str, Module], metric: str) -> bool:
    return any(count_of(module.metrics, metric) is not None for module in modules.values())


def _changed(old: _Tree, new: _Tree, metric: str) -> Iterator[tuple[str, _Change]]:
    old_self, new_self = old.self_values(metric), new.self_values(metric)
    for path, before in old_self.items():
        after = new_self.get(path, before)
        if after != before:
            yield path, _Change("changed", after - before, old.snapshot(path, before), new.snapshot(path, after))


def _renamed(old: _Tree, new: _Tree, source: str, path: str) -> _Change:
    before, after = source.split("."), path.split(".")
    common = next(
        (depth for depth, names in enumerate(zip(before, after, strict=False)) if names[0] != names[1]),
        min(len(before), len(after)),
    )
    sides = old.snapshot(source, old.totals[source]), new.snapshot(path, new.totals[path])
    return _Change("renamed", 0, *sides, common, tuple(before[common:]))


def _unmatched(
    tree: _Tree, kind: Literal["added", "removed"], totals: Mapping[str, int], moved: Collection[str]
) -> Iterator[tuple[str, _Change]]:
    """The topmost modules of ``totals``, less what was moved out of them or into them."""
    rest = {path: totals[path] for path in tree.topmost(totals)}
    for path in moved:
        top = next(up for up in (path, *_above(path)) if up in rest)
        rest[top] -= totals[path]
    for path, value in rest.items():
        # Less than nothing can be left where modules share parameters.
        if value <= 0:
            continue
        side = tree.snapshot(path, value)
        yield path, _Change(kind, value, None, side) if kind == "added" else _Change(kind, -value, side, None)


def _moves(old: _Tree, new: _Tree, removed: Mapping[str, int], added: Mapping[str, int]) -> dict[str, str]:
    """Old path → new path of the removed subtrees that were added elsewhere as they were.

    The new one is looked for beside the old one first, then under its name anywhere, then anywhere; and the dearest
    subtrees first, hence whole ones before their parts.
    """
    if not removed or not added:
        return {}
    known: dict[object, int] = {}
    # A baseline may lack what is measured by now, or asked for by now.
    both = _keys(old.modules) & _keys(new.modules)
    old_identities, new_identities = (identities(_with_only(tree.modules, both), known) for tree in (old, new))
    sources = sorted((path for path in removed if removed[path]), key=natural_key)
    sources.sort(key=lambda path: -removed[path])
    targets = sorted((path for path in added if added[path]), key=natural_key)
    left, right = _Claims(), _Claims()
    moves = {}
    for likeness in _LIKENESSES:
        pool: defaultdict[tuple[int, str], deque[str]] = defaultdict(deque)
        for path in targets:
            pool[new_identities[path], likeness(path)].append(path)
        for path in sources:
            candidates = pool.get((old_identities[path], likeness(path)))
            if not candidates or not left.free(path):
                continue
            while candidates and not right.free(candidates[0]):
                candidates.popleft()
            if candidates:
                moves[path] = candidates.popleft()
                left.claim(path)
                right.claim(moves[path])
    return moves


def _keys(modules: Mapping[str, Module]) -> set[str]:
    return {key for module in modules.values() for key in module.metrics}


def _with_only(modules: Mapping[str, Module], keys: Collection[str]) -> Mapping[str, Module]:
    return {
        path: replace(module, metrics={key: value for key, value in module.metrics.items() if key in keys})
        for path, module in modules.items()
    }


_LIKENESSES: tuple[Callable[[str], str], ...] = (
    lambda path: path.rpartition(".")[0],
    lambda path: path.rpartition(".")[2],
    lambda _: "",
)


class _Claims:
    """Subtrees that have moved: none of them, of what is in them or around them can move again."""

    def __init__(self) -> None:
        self._tops: set[str] = set()
        self._around: set[str] = set()

    def free(self, path: str) -> bool:
        return path not in self._around and self._tops.isdisjoint((path, *_above(path)))

    def claim(self, path: str) -> None:
        self._tops.add(path)
        self._around.update(_above(path))


def _folded(changes: Sequence[tuple[str, _Change]]) -> list[ModuleChange]:
    """Tell equal changes of number-named siblings at once; each stands where its first one stood."""
    # A path is a tuple of segments, a segment the tuple of names that it stands for.
    rows: list[tuple[_Segments, _Change]] = [
        (tuple((name,) for name in path.split(".")), change) for path, change in changes
    ]
    for depth in reversed(range(max((len(path) for path, _ in rows), default=0))):
        groups: dict[object, list[tuple[_Segments, _Change]]] = {}
        for path, change in rows:
            foldable = len(path) > depth and is_number(path[depth][0])
            key = (path[:depth], path[depth + 1 :], change) if foldable else (path,)
            groups.setdefault(key, []).append((path, change))
        rows = [_merged(group, depth) for group in groups.values()]
    return [_folded_path(path, change) for path, change in rows]


def _merged(group: Sequence[tuple[_Segments, _Change]], depth: int) -> tuple[_Segments, _Change]:
    path, change = group[0]
    if len(group) == 1:
        return path, change
    names = tuple(name for member, _ in group for name in member[depth])
    return (*path[:depth], names, *path[depth + 1 :]), change


def _folded_path(path: _Segments, change: _Change) -> ModuleChange:
    segments = [write_segment(names) for names in path]
    old_segments = [*segments[: change.common], *(write_segment((name,)) for name in change.old_rest)]
    count = math.prod(map(len, path))
    return ModuleChange(
        path=".".join(segments),
        kind=change.kind,
        old_path=".".join(old_segments) if change.kind == "renamed" else "",
        count=count,
        change=change.change * count,
        old=change.old,
        new=change.new,
    )


def _operator_changes(old: Complexity, new: Complexity, metric: str) -> tuple[OperatorChange, ...]:
    changes = []
    for name in sorted(old.operators.keys() | new.operators.keys(), key=natural_key):
        before, after = old.operators.get(name), new.operators.get(name)
        values = [count_of(operator.metrics, metric) if operator else None for operator in (before, after)]
        change = OperatorChange(
            operator=name,
            old_calls=before.calls if before else 0,
            new_calls=after.calls if after else 0,
            old=values[0] or 0,
            new=values[1] or 0,
        )
        # Operators have no parameters: of such a metric there is nothing to tell.
        if values != [None, None] and (change.old, change.old_calls) != (change.new, change.new_calls):
            changes.append(change)
    return tuple(sorted(changes, key=lambda change: -abs(change.new - change.old)))


def _above(path: str) -> Iterator[str]:
    """The paths of all that contain ``path``, nearest first."""
    while path:
        path = path.rpartition(".")[0]
        yield path
