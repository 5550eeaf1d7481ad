"""Group changed measurements by what was edited, so that a comparison names each edit once."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from pytest_flopsbudget.results.causes import Cause, CauseGroup, CauseGroups, make_cause
from pytest_flopsbudget.results.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flopsbudget.results.changes import Change


_Causes = defaultdict[object, CauseGroups]


class ChangeGroup(NamedTuple):
    """Measurements that changed for one cause."""

    changes: tuple[Change, ...]
    #: What the measurements have in common; None if the group has one measurement.
    cause: Cause | None


def group_changes(found: Iterable[Change]) -> list[ChangeGroup]:
    """Group the changes by their cause, in the order of the first change of each group.

    A measurement is a group by itself if it exists on one side only, if its id held another model before, or if nothing
    explains its change: no edit, no other input, no other kind of run and no other PyTorch.
    """
    #: Key → the causes. The key is what differs in the runs if no metric of the model changed, else None.
    causes: _Causes = defaultdict(CauseGroups)
    groups: dict[object, tuple[CauseGroup | None, list[Change]]] = {}
    for change in found:
        group = _find(change, causes)
        groups.setdefault(group or change.key, (group, []))[1].append(change)
    return [
        ChangeGroup(tuple(changes), make_cause(group, ()) if group is not None and len(changes) > 1 else None)
        for group, changes in groups.values()
    ]


def is_judged(change: Change) -> bool:
    """Return whether a metric of the model changed, and not only metrics of the kernels of another PyTorch."""
    comparison = change.comparison
    return comparison is not None and (bool(comparison.laws) or any(one.judged for one in comparison.changes))


def _find(change: Change, causes: _Causes) -> CauseGroup | None:
    comparison = change.comparison
    if comparison is None or change.new is None or comparison.equal_to:
        return None
    run = (comparison.inputs_changed, comparison.execution_changed, comparison.backward_changed)
    if is_judged(change):
        key = None
        explained = any(run) or bool(change.edits)
    else:
        key = (*run, comparison.pytorch_changed, comparison.vanished)
        explained = any(key)
    if not explained:
        return None
    verdict = Verdict(
        name=change.key.name,
        outcome="changed",
        fails=False,
        # Every change belongs to the cause: the two sides are compared without any tolerance.
        comparison=replace(comparison, changes=tuple(replace(one, allowed=False) for one in comparison.changes)),
        diffs=change.diffs,
        edits=change.edits,
        complexity=change.new,
    )
    group = causes[key].find(verdict)
    group.tests.setdefault(change.key.nodeid, []).append(verdict)
    return group
