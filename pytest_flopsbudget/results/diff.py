"""Compare two complexities: which modules and operators changed, and by how much."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from itertools import starmap
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from pytest_flopsbudget.quantities.metrics import implied_count, metric_of, sort_metrics
from pytest_flopsbudget.results.alignment import BEFORE, aligned
from pytest_flopsbudget.results.folding import identities, is_number, natural_key, write_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.data import Module

Kind = Literal["changed", "added", "removed", "renamed"]

#: Metric → the metric that it follows. If both change, a second list with the same modules would add nothing new.
FOLLOWS = {
    "param_bytes": "params",
    "trainable_params": "params",
    "active_params": "params",
    "non_embedding_params": "params",
    "macs": "flops",
    "masked_flops": "flops",
    "bit_operations": "flops",
}

#: A path: its segments, each with the names that it covers.
Segments = tuple[tuple[str, ...], ...]

_T = TypeVar("_T")


class ModuleSnapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One module in the old or in the new measurement."""

    type: str
    shape: str
    calls: int
    #: The metric's value. For a changed module, this is its self value, without the modules below it. For a renamed
    #: module, this is its total. For an added or removed module, this is its total without the modules that moved.
    value: int


class ModuleChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of one module, or the equal changes of several equal siblings."""

    #: The new path. If the module was removed, this is the old path. Siblings are folded: "layers.{0-31}.mlp".
    path: str
    #: The kind of the change.
    kind: Kind
    #: The old path of a renamed module; empty for other changes.
    old_path: str = ""
    #: The number of modules that the path covers.
    count: int = 1
    #: The growth of the metric, summed over the modules that the path covers.
    change: int
    #: The module before the change; null if it was added.
    old: ModuleSnapshot | None
    #: The module after the change; null if it was removed.
    new: ModuleSnapshot | None


class OperatorChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator whose calls or cost changed. If it ran on one side only, the numbers of the other side are 0."""

    operator: str
    old_calls: int
    new_calls: int
    old: int
    new: int


class Diff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The change of one metric, by module and by operator. Both lists begin with the largest change."""

    metric: str
    old: int
    new: int
    #: The changes of modules. If the metric adds up, they add up to the total change.
    modules: tuple[ModuleChange, ...]
    #: The changes of operators. The list is empty if operators do not have the metric.
    operators: tuple[OperatorChange, ...]
    #: The old and the new input signature if they differ.
    inputs_changed: tuple[tuple[str, ...], tuple[str, ...]] | None


def diff(old: Complexity, new: Complexity, metric: str = "flops") -> Diff:
    """Find the modules and operators through which a metric's value changed.

    A module is listed if its self value changed: its value without the modules below it. If a subtree was
    added or removed, its topmost module is listed. A removed subtree counts as renamed if an equal subtree was added
    elsewhere. In lists of modules that only gained and lost children, equal children are compared with each other, and
    not those with equal numbers.

    Args:
        old: The complexity before.
        new: The complexity after.
        metric: Key of a metric that both complexities have. It may be stored or derived. It must not be a ratio,
            because a ratio is no sum of parts.

    Raises:
        KeyError: there is no such metric, or one of the complexities does not have the metric.
    """
    return Diff(
        metric=metric,
        old=_total(old, metric),
        new=_total(new, metric),
        modules=_module_changes(aligned(old.modules, new.modules), new.modules, metric),
        operators=_operator_changes(old, new, metric),
        inputs_changed=(old.inputs, new.inputs) if old.inputs != new.inputs else None,
    )


def _total(complexity: Complexity, metric: str) -> int:
    value = complexity.value(metric)
    if not isinstance(value, int):
        raise KeyError(f"metric {metric!r} is a ratio, and no sum of parts")
    return value


def metrics_to_show(metrics: Collection[str]) -> list[str]:
    """Return the metrics to list, sorted. A metric that changes with a listed one is left out: MACs with FLOPs."""
    return [metric for metric in sort_metrics(metrics) if FOLLOWS.get(metric) not in metrics]


def self_values(modules: Mapping[str, Module], metric: str) -> dict[str, int]:
    """Return path → the self value of the metric: the module's value without the modules below it."""
    return _Tree(modules, metric).self_values(metric)


def renamed_paths(old: Mapping[str, Module], new: Mapping[str, Module]) -> dict[str, str]:
    """Return old path → new path, for all modules of subtrees that are at another path in ``new``, unchanged.

    A subtree without products and without parameters is not recognized, because many subtrees look like it.
    """
    trees = _Tree(old, "flops"), _Tree(new, "flops")
    removed, added = (
        {
            path: module.metrics.get("flops", 0) + module.metrics.get("params", 0)
            for path, module in modules.items()
            if path not in others
        }
        for modules, others in ((old, new), (new, old))
    )
    moves = _moves(*trees, removed, added)
    renamed = {}
    for path in old if moves else ():
        top = next((up for up in (path, *_above(path)) if up in moves), None)
        if top is not None:
            renamed[path] = moves[top] + path[len(top) :]
    return renamed


def shape_change(old_shape: str, new_shape: str) -> tuple[str, str]:
    """Return the parts in which two shapes (settings of a module, as text) differ.

    "512->512, 3x3" and "512->512, 5x5" give "3x3" and "5x5". If the numbers of parts differ, return both whole shapes.
    """
    old_parts, new_parts = old_shape.split(", "), new_shape.split(", ")
    if len(old_parts) != len(new_parts):
        return old_shape, new_shape
    differing = [pair for pair in zip(old_parts, new_parts, strict=True) if pair[0] != pair[1]]
    return ", ".join(old for old, _ in differing), ", ".join(new for _, new in differing)


class _Tree:
    """The modules of the old or the new complexity, with the values of one metric."""

    def __init__(self, modules: Mapping[str, Module], metric: str) -> None:
        self.modules = modules
        self.totals = {path: implied_count(module.metrics, metric) or 0 for path, module in modules.items()}
        self.parents = {path: next((up for up in _above(path) if up in modules), None) for path in modules}

    def snapshot(self, path: str, value: int) -> ModuleSnapshot:
        module = self.modules[path]
        return ModuleSnapshot(module.type, module.shape, module.calls, value)

    def self_values(self, metric: str) -> dict[str, int]:
        """Return path → the module's value without the modules below it."""
        aggregation = metric_of(metric).aggregation
        below = dict.fromkeys(self.modules, 0)
        for path, parent in self.parents.items():
            if parent is not None:
                total = self.totals[path]
                below[parent] = max(below[parent], total) if aggregation == "peak" else below[parent] + total
        own = {path: total - below[path] for path, total in self.totals.items()}
        # A parameter that two children share counts once in the parent, so the difference may be negative.
        return own if aggregation == "sum" else {path: max(0, value) for path, value in own.items()}

    def topmost(self, paths: Collection[str]) -> list[str]:
        """Return the paths whose parent is not in ``paths``."""
        return [path for path in paths if self.parents[path] not in paths]


class _Change(msgspec.Struct, frozen=True):
    """A change of one module, without the module's path."""

    kind: Kind
    change: int
    old: ModuleSnapshot | None
    new: ModuleSnapshot | None
    #: For a renamed module: the number of leading segments that both paths share, and the other segments of the old
    #: path.
    common: int = 0
    old_rest: tuple[str, ...] = ()


def _module_changes(
    old_modules: Mapping[str, Module], new_modules: Mapping[str, Module], metric: str
) -> tuple[ModuleChange, ...]:
    if any(modules and not _held(modules, metric) for modules in (old_modules, new_modules)):
        return ()
    old, new = _Tree(old_modules, metric), _Tree(new_modules, metric)
    # Here dicts are used like sets, because dicts keep the order of the modules.
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
    return tuple(sorted(starmap(_folded_path, merge_siblings(changes)), key=lambda change: -abs(change.change)))


def _held(modules: Mapping[str, Module], metric: str) -> bool:
    return any(implied_count(module.metrics, metric) is not None for module in modules.values())


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
    """Yield (path, change) for the topmost modules of ``totals``.

    The value of a change does not include the modules in ``moved``. Changes without a positive value are left out.
    """
    rest = {path: totals[path] for path in tree.topmost(totals)}
    for path in moved:
        top = next(up for up in (path, *_above(path)) if up in rest)
        rest[top] -= totals[path]
    for path, value in rest.items():
        # The rest can be negative if modules share parameters.
        if value <= 0:
            continue
        side = tree.snapshot(path, value)
        yield path, _Change(kind, value, None, side) if kind == "added" else _Change(kind, -value, side, None)


def _moves(old: _Tree, new: _Tree, removed: Mapping[str, int], added: Mapping[str, int]) -> dict[str, str]:
    """Return old path → new path of each removed subtree for which an equal subtree was added elsewhere.

    A new path in the same parent module is preferred. The next choice is a new path with the same last name, and the
    last choice is any new path. The most expensive subtrees come first, so whole subtrees come before their parts.
    """
    if not removed or not added:
        return {}
    known: dict[object, int] = {}
    # A baseline may lack metrics that are measured or requested since then.
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
        path: replace(module, metrics={key: value for key, value in module.metrics.items() if key in keys}, outputs=())
        for path, module in modules.items()
    }


_LIKENESSES: tuple[Callable[[str], str], ...] = (
    lambda path: path.rpartition(".")[0],
    lambda path: path.rpartition(".")[2],
    lambda _: "",
)


class _Claims:
    """The subtrees that have moved. A module inside or above such a subtree cannot move again."""

    def __init__(self) -> None:
        self._tops: set[str] = set()
        self._around: set[str] = set()

    def free(self, path: str) -> bool:
        return path not in self._around and self._tops.isdisjoint((path, *_above(path)))

    def claim(self, path: str) -> None:
        self._tops.add(path)
        self._around.update(_above(path))


def merge_siblings(changes: Sequence[tuple[str, _T]]) -> list[tuple[Segments, _T]]:
    """Merge equal changes of siblings named by numbers. A merged change has the position of its first sibling.

    Returns:
        (path, change). A path is a tuple of segments, and a segment is a tuple of the names that the segment covers.
    """
    rows: list[tuple[Segments, _T]] = [(tuple((name,) for name in path.split(".")), change) for path, change in changes]
    for depth in reversed(range(max((len(path) for path, _ in rows), default=0))):
        groups: dict[object, list[tuple[Segments, _T]]] = {}
        for path, change in rows:
            foldable = len(path) > depth and is_number(path[depth][0])
            key = (path[:depth], path[depth + 1 :], change) if foldable else (path,)
            groups.setdefault(key, []).append((path, change))
        rows = [_merged(group, depth) for group in groups.values()]
    return rows


def _merged(group: Sequence[tuple[Segments, _T]], depth: int) -> tuple[Segments, _T]:
    path, change = group[0]
    if len(group) == 1:
        return path, change
    names = tuple(name for member, _ in group for name in member[depth])
    return (*path[:depth], names, *path[depth + 1 :]), change


def _folded_path(path: Segments, change: _Change) -> ModuleChange:
    segments = [write_segment(names) for names in path]
    old_segments = [*segments[: change.common], *(write_segment((name,)) for name in change.old_rest)]
    count = math.prod(map(len, path))
    return ModuleChange(
        path=".".join(segments).replace(BEFORE, ""),
        kind=change.kind,
        old_path=".".join(old_segments).replace(BEFORE, "") if change.kind == "renamed" else "",
        count=count,
        change=change.change * count,
        old=change.old,
        new=change.new,
    )


def _operator_changes(old: Complexity, new: Complexity, metric: str) -> tuple[OperatorChange, ...]:
    changes = []
    for name in sorted(old.operators.keys() | new.operators.keys(), key=natural_key):
        before, after = old.operators.get(name), new.operators.get(name)
        values = [implied_count(operator.metrics, metric) if operator else None for operator in (before, after)]
        change = OperatorChange(
            operator=name,
            old_calls=before.calls if before else 0,
            new_calls=after.calls if after else 0,
            old=values[0] or 0,
            new=values[1] or 0,
        )
        # Operators have no parameters, so a metric of parameters has no changes of operators.
        if values != [None, None] and (change.old, change.old_calls) != (change.new, change.new_calls):
            changes.append(change)
    return tuple(sorted(changes, key=lambda change: -abs(change.new - change.old)))


def _above(path: str) -> Iterator[str]:
    """Yield the paths of all modules that contain ``path``, nearest first."""
    while path:
        path = path.rpartition(".")[0]
        yield path
