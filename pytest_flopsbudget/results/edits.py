"""Find the edits of a model: modules whose settings differ from the baseline's, and modules that are new or gone."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec.structs import replace

from pytest_flopsbudget.quantities.metrics import implied_count
from pytest_flopsbudget.results.alignment import find_shifts
from pytest_flopsbudget.results.data import Count, Source
from pytest_flopsbudget.results.diff import merge_siblings
from pytest_flopsbudget.results.folding import first_path, natural_key, unfold_path, write_segment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.data import Module
    from pytest_flopsbudget.results.diff import Diff, ModuleSnapshot


class ModuleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The class and the settings of a module, without its cost."""

    type: str
    #: The settings that determine the module's size: "512->512, 3x3"; empty if unknown.
    shape: str
    calls: Count


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An edited, added or removed module. Equal edits of sibling modules are one edit."""

    #: The path of the module. Siblings are folded: "layers.{0-31}.mlp". In a cause, "*" replaces numbers and the
    #: beginnings that differ between tests.
    path: str
    #: "changed": the class, the settings or the number of calls differ. "cost": only the cost of the module differs.
    kind: Literal["changed", "added", "removed", "cost"]
    #: The number of modules that the path covers.
    count: int = 1
    #: Where the project defines the edited modules or, if a library defines them, the modules around them. For modules
    #: that were added, removed or replaced, these are the modules around them too.
    sources: tuple[Source, ...] = ()
    #: The module before the edit; null if it was added.
    old: ModuleSettings | None
    #: The module after the edit; null if it was removed.
    new: ModuleSettings | None


#: The two sides of a changed module.
_Sides = tuple[ModuleSettings, ModuleSettings]


def find_edits(
    old: Complexity, new: Complexity, diffs: Sequence[Diff], *, otherwise_explained: bool
) -> tuple[Edit, ...]:
    """Return the edits through which metrics changed. The edit with the largest effect is first.

    Modules inside of an added, removed or replaced module are not listed, and neither is a module whose number of calls
    changed together with that of its parent.

    Args:
        old: the baseline.
        new: the measurement.
        diffs: the differences in the metrics that changed.
        otherwise_explained: whether another input or another kind of run explains the change. If not, and if no module
            was edited, the modules whose self cost changed are listed.
    """
    metrics = [diff.metric for diff in diffs]
    replaced = {
        path
        for path in old.modules
        if path in new.modules and path and _is_replaced(old.modules[path], new.modules[path], metrics)
    }
    shifted = {
        parent: [
            *(_one_sided("removed", path, old.modules[path]) for path in shift.removed),
            *(_one_sided("added", path, new.modules[path]) for path in shift.added),
        ]
        for parent, shift in find_shifts(old.modules, new.modules).items()
        if not _is_below(parent, replaced)
    }
    hidden = replaced | shifted.keys()
    found = [
        *_changed(old.modules, new.modules, replaced, hidden),
        *(edit for edit in _added_and_removed(diffs) if not _is_below(first_path(edit.path), hidden)),
        *itertools.chain.from_iterable(shifted.values()),
    ]
    if not found and old.modules and new.modules and _types(old) != _types(new):
        found = [_edit("changed", "", 1, (_settings(old.modules[""]), _settings(new.modules[""])))]
    if not found and not otherwise_explained:
        found = [*_costs(diffs)]
    totals = {diff.metric: max(1, abs(diff.new - diff.old)) for diff in diffs}
    found.sort(key=lambda edit: -_effect(edit, old.modules, new.modules, totals))
    return tuple(found if not new.sources else (replace(edit, sources=_sources(edit, new)) for edit in found))


def _sources(edit: Edit, new: Complexity) -> tuple[Source, ...]:
    is_inside = edit.kind != "cost" and (edit.old is None or edit.new is None or edit.old.type != edit.new.type)
    found: dict[Source, None] = {}
    for path in unfold_path(edit.path):
        places = [*([] if is_inside and path else [path]), *_above(path)]
        types = (new.modules[place].type for place in places if place in new.modules)
        source = next((new.sources[one] for one in types if one in new.sources), None)
        if source is not None:
            found[source] = None
    return tuple(found)


def _types(complexity: Complexity) -> str:
    root = complexity.modules.get("")
    return root.type if root else ""


def _settings(module: Module | ModuleSnapshot) -> ModuleSettings:
    return ModuleSettings(module.type, module.shape, module.calls)


def _is_replaced(old: Module, new: Module, metrics: Iterable[str]) -> bool:
    """Return whether the module has another class and another cost. A class that was only renamed costs the same."""
    return old.type != new.type and any(
        implied_count(old.metrics, metric) != implied_count(new.metrics, metric) for metric in metrics
    )


def _changed(
    old: Mapping[str, Module], new: Mapping[str, Module], replaced: Collection[str], hidden: Collection[str]
) -> Iterator[Edit]:
    found: list[tuple[str, _Sides]] = []
    for path, before in old.items():
        after = new.get(path)
        if after is None or _is_below(path, hidden):
            continue
        if before.shape != after.shape or path in replaced or _own_calls_changed(path, old, new):
            found.append((path, (_settings(before), _settings(after))))
    found.sort(key=lambda item: natural_key(item[0]))
    for segments, sides in merge_siblings(found):
        path = ".".join(map(write_segment, segments))
        yield _edit("changed", path, math.prod(map(len, segments)), sides)


def _one_sided(kind: Literal["added", "removed"], path: str, module: Module) -> Edit:
    settings = _settings(module)
    escaped = ".".join(write_segment((name,)) for name in path.split("."))
    return Edit(
        path=escaped, kind=kind, old=settings if kind == "removed" else None, new=settings if kind == "added" else None
    )


def _edit(kind: Literal["changed", "cost"], path: str, count: int, sides: _Sides) -> Edit:
    return Edit(path=path, kind=kind, count=count, old=sides[0], new=sides[1])


def _own_calls_changed(path: str, old: Mapping[str, Module], new: Mapping[str, Module]) -> bool:
    """Return whether the number of calls changed, and not only together with that of the parent module."""
    if old[path].calls == new[path].calls:
        return False
    above = next((up for up in _above(path) if up in old and up in new), None)
    return above is None or old[path].calls * new[above].calls != new[path].calls * old[above].calls


def _added_and_removed(diffs: Iterable[Diff]) -> Iterator[Edit]:
    """Yield the added and removed modules that cost something in one of the metrics, without those that moved."""
    found: set[str] = set()
    for change in itertools.chain.from_iterable(diff.modules for diff in diffs):
        if change.kind in {"added", "removed"} and found.isdisjoint(unfold_path(change.path)):
            found.update(unfold_path(change.path))
            yield Edit(
                path=change.path,
                kind="added" if change.kind == "added" else "removed",
                count=change.count,
                old=None if change.old is None else _settings(change.old),
                new=None if change.new is None else _settings(change.new),
            )


def _costs(diffs: Iterable[Diff]) -> Iterator[Edit]:
    found: set[str] = set()
    for change in itertools.chain.from_iterable(diff.modules for diff in diffs):
        # The model itself is left out: every text names the model anyway.
        if not change.path or change.old is None or change.new is None:
            continue
        if found.isdisjoint(unfold_path(change.path)):
            found.update(unfold_path(change.path))
            yield _edit("cost", change.path, change.count, (_settings(change.old), _settings(change.new)))


def _effect(edit: Edit, old: Mapping[str, Module], new: Mapping[str, Module], totals: Mapping[str, int]) -> Fraction:
    """Return by how much the edited modules changed, as a share of the whole change, summed over the metrics."""
    effect = Fraction(0)
    for path in unfold_path(edit.path):
        for metric, total in totals.items():
            before, after = (
                implied_count(modules[path].metrics, metric) or 0 if side is not None and path in modules else 0
                for side, modules in ((edit.old, old), (edit.new, new))
            )
            effect += Fraction(abs(after - before), total)
    return effect


def _is_below(path: str, tops: Collection[str]) -> bool:
    return bool(tops) and any(up in tops for up in _above(path))


def _above(path: str) -> Iterator[str]:
    """Yield the paths of all modules that contain ``path``, nearest first."""
    while path:
        path = path.rpartition(".")[0]
        yield path
