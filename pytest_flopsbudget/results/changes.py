"""Compare two sets of measurements: which are new, removed, renamed, regressed or improved."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from pytest_flopsbudget.results.comparison import Comparison, compare
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.diff import Diff, diff, metrics_to_show
from pytest_flopsbudget.results.edits import Edit, find_edits
from pytest_flopsbudget.results.folding import natural_key
from pytest_flopsbudget.results.identity import find_neighbours
from pytest_flopsbudget.results.renames import find_renames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: The kinds of changes, in the order in which they are shown. "changed": no metric grew, but the inputs, the model or
#: the execution differ.
ChangeKind = Literal["regressed", "improved", "changed", "new", "removed", "renamed", "unchanged"]


class Key(NamedTuple):
    """Identifies one measurement of one test."""

    nodeid: str
    #: The measurement's name within its test.
    name: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The change of one measurement."""

    kind: ChangeKind
    #: The key of the measurement. If the measurement was removed, this is its last key.
    key: Key
    #: The old key of a renamed measurement.
    old_key: Key | None = None
    #: The old costs; None if the measurement is new.
    old: Complexity | None
    #: The new costs; None if the measurement was removed.
    new: Complexity | None
    comparison: Comparison | None = None
    #: The modules and operators through which the metrics changed. Metrics that follow another metric are left out.
    diffs: tuple[Diff, ...] = ()
    #: The edited modules that explain the changes. The edit with the largest effect is first.
    edits: tuple[Edit, ...] = ()


def changes(old: Mapping[Key, Complexity], new: Mapping[Key, Complexity]) -> list[Change]:
    """Compare two sets of measurements, without any tolerance.

    A removed test counts as renamed in two cases. First: a new test has the same cost. Second: exactly one removed test
    and exactly one new test have the same name, in different files.

    Returns:
        One change for each measurement, sorted by kind and node id.
    """
    old_tests, new_tests = _by_test(old), _by_test(new)
    gone = {nodeid: entries for nodeid, entries in old_tests.items() if nodeid not in new_tests}
    come = {nodeid: entries for nodeid, entries in new_tests.items() if nodeid not in old_tests}
    renames = find_renames(gone, come)
    renames |= _moves(gone.keys() - renames.keys(), come.keys() - set(renames.values()))
    now = {
        Key(old_nodeid, name): Key(nodeid, name) for old_nodeid, nodeid in renames.items() for name in gone[old_nodeid]
    }
    before = {now.get(key, key): key for key in old}
    found = [
        _change(
            key,
            before.get(key),
            old[before[key]] if key in before else None,
            new.get(key),
            find_neighbours(old_tests, before[key].nodeid, before[key].name) if key in before else None,
        )
        for key in before.keys() | new.keys()
    ]
    return sorted(found, key=lambda change: (KINDS.index(change.kind), natural_key(change.key.nodeid), change.key.name))


KINDS: tuple[ChangeKind, ...] = ("regressed", "improved", "changed", "new", "removed", "renamed", "unchanged")


def _change(
    key: Key,
    old_key: Key | None,
    old: Complexity | None,
    new: Complexity | None,
    neighbours: Callable[[], Mapping[str, Complexity]] | None,
) -> Change:
    if old is None or new is None:
        kind: ChangeKind = "new" if old is None else "removed"
        return Change(kind=kind, key=key, old=old, new=new)
    comparison = compare(old, new, {}, neighbours)
    kind = _kind(comparison)
    renamed = old_key != key
    shown_metrics = metrics_to_show({change.metric for change in comparison.changes})
    diffs = tuple(diff(old, new, metric) for metric in shown_metrics)
    return Change(
        kind="renamed" if renamed and kind == "unchanged" else kind,
        key=key,
        old_key=old_key if renamed else None,
        old=old,
        new=new,
        comparison=comparison,
        diffs=diffs,
        edits=_edits(old, new, comparison, diffs),
    )


def _edits(old: Complexity, new: Complexity, comparison: Comparison, diffs: Iterable[Diff]) -> tuple[Edit, ...]:
    # Another PyTorch runs other kernels. What changed in these is no edit of the model.
    judged = {change.metric for change in comparison.changes if change.judged}
    explained = [diff for diff in diffs if diff.metric in judged]
    if not explained:
        return ()
    another_run = comparison.inputs_changed or comparison.execution_changed or comparison.backward_changed
    return find_edits(old, new, explained, otherwise_explained=bool(another_run))


def _kind(comparison: Comparison) -> ChangeKind:
    if comparison.status == "regressed":
        return "regressed"
    if comparison.status == "improved":
        return "improved"
    if comparison.status in {"changed", "moved"}:
        return "changed"
    run = (
        comparison.inputs_changed
        or comparison.range_changed
        or comparison.execution_changed
        or comparison.backward_changed
    )
    return "changed" if run or comparison.vanished else "unchanged"


def _moves(gone: Iterable[str], come: Iterable[str]) -> dict[str, str]:
    """Return old node id → new node id, for each name that exactly one test in ``gone`` and one in ``come`` have."""
    sides: list[dict[str, list[str]]] = []
    for nodeids in (gone, come):
        by_name: defaultdict[str, list[str]] = defaultdict(list)
        for nodeid in nodeids:
            by_name[nodeid.partition("::")[2]].append(nodeid)
        sides.append(by_name)
    old, new = sides
    return {old[name][0]: new[name][0] for name in old if len(old[name]) == len(new.get(name, [])) == 1}


def _by_test(entries: Mapping[Key, Complexity]) -> Mapping[str, Mapping[str, Complexity]]:
    tests: defaultdict[str, dict[str, Complexity]] = defaultdict(dict)
    for key, entry in entries.items():
        tests[key.nodeid][key.name] = entry
    return tests


def differing(found: Iterable[Change]) -> list[Change]:
    """Return the changes whose kind is not "unchanged"."""
    return [change for change in found if change.kind != "unchanged"]
