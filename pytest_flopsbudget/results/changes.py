"""Two sets of measurements → which are new, gone, renamed, dearer, cheaper."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from pytest_flopsbudget.results.comparison import Comparison, compare
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.diff import Diff, diff, telling
from pytest_flopsbudget.results.fold import natural_key
from pytest_flopsbudget.results.orphans import likely_renames

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: "changed": the costs are the same, the inputs or the run are not. In the order in which they are shown.
ChangeKind = Literal["regressed", "improved", "changed", "new", "removed", "renamed", "unchanged"]


class Key(NamedTuple):
    """One measurement of one test."""

    nodeid: str
    #: Its name within its test.
    name: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one measurement."""

    kind: ChangeKind
    #: What it is called now, or was if it is gone.
    key: Key
    #: What a renamed one was called.
    old_key: Key | None = None
    #: None where it is new.
    old: Complexity | None
    #: None where it is gone.
    new: Complexity | None
    comparison: Comparison | None = None
    #: Through what the metrics changed, for those whose modules tell something that no other's tell.
    diffs: tuple[Diff, ...] = ()


def changes(old: Mapping[Key, Complexity], new: Mapping[Key, Complexity]) -> list[Change]:
    """Hold two sets of measurements against each other, without any tolerance.

    Returns:
        One a measurement, by kind and node id.
    """
    renamed = _renames(old, new)
    found = [_change(key, old[key], new[key]) for key in old.keys() & new.keys()]
    found += [
        Change(kind="renamed", key=key, old_key=old_key, old=old[old_key], new=new[key])
        for old_key, key in renamed.items()
    ]
    found += [
        Change(kind="removed", key=key, old=old[key], new=None) for key in old.keys() - new.keys() if key not in renamed
    ]
    found += [
        Change(kind="new", key=key, old=None, new=new[key])
        for key in new.keys() - old.keys()
        if key not in renamed.values()
    ]
    return sorted(found, key=lambda change: (KINDS.index(change.kind), natural_key(change.key.nodeid), change.key.name))


KINDS: tuple[ChangeKind, ...] = ("regressed", "improved", "changed", "new", "removed", "renamed", "unchanged")


def _change(key: Key, old: Complexity, new: Complexity) -> Change:
    comparison = compare(old, new, {})
    telling_metrics = telling({change.metric for change in comparison.changes})
    return Change(
        kind=_kind(comparison),
        key=key,
        old=old,
        new=new,
        comparison=comparison,
        diffs=tuple(diff(old, new, metric) for metric in telling_metrics),
    )


def _kind(comparison: Comparison) -> ChangeKind:
    if comparison.status == "regressed":
        return "regressed"
    if comparison.status == "improved":
        return "improved"
    differs = (
        comparison.inputs_changed or comparison.execution_changed or comparison.backward_changed or comparison.vanished
    )
    return "changed" if differs else "unchanged"


def _renames(old: Mapping[Key, Complexity], new: Mapping[Key, Complexity]) -> dict[Key, Key]:
    """Old key → new key, of tests that are only on one side."""
    old_tests, new_tests = _by_test(old), _by_test(new)
    gone = {nodeid: entries for nodeid, entries in old_tests.items() if nodeid not in new_tests}
    come = {nodeid: entries for nodeid, entries in new_tests.items() if nodeid not in old_tests}
    return {
        Key(old_nodeid, name): Key(new_nodeid, name)
        for old_nodeid, new_nodeid in likely_renames(gone, come).items()
        for name in gone[old_nodeid]
    }


def _by_test(entries: Mapping[Key, Complexity]) -> Mapping[str, Mapping[str, Complexity]]:
    tests: defaultdict[str, dict[str, Complexity]] = defaultdict(dict)
    for key, entry in entries.items():
        tests[key.nodeid][key.name] = entry
    return tests


def differing(found: Iterable[Change]) -> list[Change]:
    """Those that say something."""
    return [change for change in found if change.kind != "unchanged"]
