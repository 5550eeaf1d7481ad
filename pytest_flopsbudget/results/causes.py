"""Group the failing measurements of a run by what was changed, so that reports name each cause once."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pytest_flopsbudget.identifiers import is_below, update_command
from pytest_flopsbudget.quantities.metrics import sort_metrics
from pytest_flopsbudget.results.data import Count, Execution
from pytest_flopsbudget.results.edits import Edit
from pytest_flopsbudget.results.folding import first_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_flopsbudget.results.verdict import Verdict


class ChangeRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The smallest and the largest relative change of a metric among the measurements of a cause."""

    metric: str
    #: The values before and after the smallest change.
    smallest: tuple[int, int]
    #: The values before and after the largest change.
    largest: tuple[int, int]


class Cause(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One reason why measurements fail, with all tests that fail for it."""

    #: The input before and after the change; null if the input did not change.
    inputs: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    #: The execution before and after the change; null if it did not change.
    execution: tuple[Execution, Execution] | None = None
    #: Whether the backward pass was counted before and after the change; null if this did not change.
    backward: tuple[bool, bool] | None = None
    #: The edited modules. The edit with the largest effect is first. If there are several tests, ``count`` is the sum
    #: over all of them.
    edits: tuple[Edit, ...] = ()
    #: Operators without a formula, if a setting makes them a failure.
    unknown_operators: tuple[str, ...] = ()
    #: Whether the measurements have no baseline, and a setting makes this a failure.
    without_baseline: bool = False
    #: The places of the limits that are broken, or that apply to no module.
    limit_sources: tuple[str, ...] = ()
    #: The node ids of the tests, in the order of the report.
    tests: tuple[str, ...]
    #: The number of these tests that an update accepts only after a limit was raised.
    over_limit: Count = 0
    #: The changes that no tolerance allows. The metrics are in the order of tables.
    changes: tuple[ChangeRange, ...] = ()
    #: The command that accepts the measurements of all these tests, typed in the root folder; "" if no update accepts
    #: them.
    accept: str = ""


class CauseGroup:
    """Measurements that fail for one cause."""

    def __init__(self, key: _Key, order: Sequence[object]) -> None:
        self.key = key
        #: The keys of the edits in the order of their effect.
        self.order = order
        self.places: _Places = {}
        #: Node id → its measurements that fail for this cause.
        self.tests: dict[str, list[Verdict]] = {}

    @property
    def is_shared(self) -> bool:
        """Whether several tests can fail for the cause. If only a limit is broken, each test is a cause by itself."""
        return self.key != _Key(limits=self.key.limits)

    def extend(self, places: _Places) -> None:
        """Add the places where a measurement was edited."""
        for key, found in places.items():
            known = self.places.setdefault(key, {})
            for path, (count, edit) in found.items():
                known[path] = _joined(known.get(path), count, edit)


class CauseGroups:
    """Finds the group of each failing measurement. It keeps no measurement, because measurements may be large."""

    def __init__(self) -> None:
        self._by_key: dict[_Key, list[CauseGroup]] = {}

    def __iter__(self) -> Iterator[CauseGroup]:
        return itertools.chain.from_iterable(self._by_key.values())

    def find(self, verdict: Verdict) -> CauseGroup:
        """Return the group of the measurement's cause. If there is none, a group is made."""
        key = _key(verdict)
        # A report that was edited by hand may list edits although no judged metric changed.
        places = _places(verdict) if key.edits else {}
        known = self._by_key.setdefault(key, [])
        group = next((one for one in known if _at_like_places(one.places, places)), None)
        if group is None:
            group = CauseGroup(key, [*places])
            known.append(group)
        group.extend(places)
        return group


def find_causes(tests: Iterable[tuple[str, Sequence[Verdict]]]) -> tuple[Cause, ...]:
    """Return the causes of all failing measurements. A cause with more tests comes first.

    Args:
        tests: (node id, its measurements) for all tests of the run. Measurements that do not fail are needed too: the
            command that accepts a cause should run no test that has another change.
    """
    tests = list(tests)
    groups = CauseGroups()
    for nodeid, verdicts in tests:
        for verdict in verdicts:
            if verdict.fails:
                groups.find(verdict).tests.setdefault(nodeid, []).append(verdict)
    others = [nodeid for nodeid, verdicts in tests if any(one.comparison.status != "unchanged" for one in verdicts)]
    causes = [make_cause(group, others) for group in groups]
    return tuple(sorted(causes, key=lambda cause: -len(cause.tests)))


def make_cause(group: CauseGroup, changed: Sequence[str]) -> Cause:
    """Return the cause of the measurements in ``group.tests``.

    Args:
        group: the measurements.
        changed: all tests of the run that an update would write. The command that accepts the cause avoids the others.
    """
    verdicts = [verdict for found in group.tests.values() for verdict in found]
    acceptable = any(
        verdict.failing and verdict.failing != ("unknown operators",) and not verdict.comparison.revision
        for verdict in verdicts
    )
    return Cause(
        inputs=group.key.inputs,
        execution=group.key.execution,
        backward=group.key.backward,
        edits=verdicts[0].edits if len(verdicts) == 1 else tuple(_general_edits(group)),
        unknown_operators=group.key.unknown_operators,
        without_baseline=group.key.without_baseline,
        limit_sources=tuple(dict.fromkeys(source for verdict in verdicts for source in _limit_sources(verdict))),
        tests=tuple(group.tests),
        over_limit=sum(any(map(_limit_sources, found)) for found in group.tests.values()),
        changes=tuple(_ranges(verdicts)),
        accept=update_command(*cover(list(group.tests), changed)) if acceptable else "",
    )


# The key of a cause


class _Key(NamedTuple):
    """Failing measurements have one cause if their keys are equal and their edits are at similar places."""

    inputs: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    execution: tuple[Execution, Execution] | None = None
    backward: tuple[bool, bool] | None = None
    edits: frozenset[object] = frozenset()
    #: For a change that nothing explains: the model and the metrics. If these are equal, one cause is most likely.
    unexplained: tuple[str, ...] = ()
    unknown_operators: tuple[str, ...] = ()
    without_baseline: bool = False
    #: The places of the broken limits, if nothing changed: the limits are too low, or the model is new.
    limits: tuple[str, ...] = ()


def _limit_sources(verdict: Verdict) -> list[str]:
    return [item.source for item in (*verdict.broken, *verdict.unmatched, *verdict.growth)]


def _key(verdict: Verdict) -> _Key:
    comparison = verdict.comparison
    key = _Key(without_baseline="new" in verdict.failing)
    if "unknown operators" in verdict.failing:
        key = key._replace(unknown_operators=tuple(sorted(verdict.complexity.unknown_operators)))
    judged = [change.metric for change in comparison.changes if change.judged]
    judged += [law.metric for law in comparison.laws if law.metric not in judged]
    if not judged:
        return key._replace(limits=tuple(dict.fromkeys(_limit_sources(verdict))))
    key = key._replace(
        inputs=comparison.inputs_changed,
        execution=comparison.execution_changed,
        backward=comparison.backward_changed,
        edits=frozenset(_places(verdict)),
    )
    explained = key.inputs or key.execution or key.backward or key.edits
    return key if explained else key._replace(unexplained=(verdict.complexity.model, *judged))


#: What was edited → general path of the edited modules → (number of modules, one of the edits).
_Places = dict[object, dict[str, tuple[int, Edit]]]

_NUMBERS = re.compile(r"\d+")


def _places(verdict: Verdict) -> _Places:
    found: _Places = {}
    for edit in verdict.edits:
        path = general_path(first_path(edit.path))
        places = found.setdefault(_edit_key(edit), {})
        places[path] = _joined(places.get(path), edit.count, edit)
    return found


def _joined(known: tuple[int, Edit] | None, count: int, edit: Edit) -> tuple[int, Edit]:
    """Return the number of edited modules, and one of the edits with the sources of all."""
    if known is None:
        return count, edit
    sources = tuple(dict.fromkeys((*known[1].sources, *edit.sources)))
    return known[0] + count, msgspec.structs.replace(known[1], sources=sources)


def general_path(path: str) -> str:
    """Return the path with "*" for each name that is a number: "blocks.3.conv" gives "blocks.*.conv"."""
    return ".".join("*" if name.isdecimal() else name for name in path.split("."))


def _edit_key(edit: Edit) -> object:
    """Return a key that is equal for edits of layers of different sizes if the same setting was changed.

    A kernel that became 5x5 instead of 3x3 is one edit for layers of any width. A layer that became twice as wide is
    one edit for layers of any input.
    """
    if edit.old is None or edit.new is None:
        side = edit.new or edit.old
        return edit.kind, side.type if side else ""
    types = edit.old.type, edit.new.type
    if types[0] != types[1]:
        return edit.kind, types
    calls = Fraction(edit.new.calls, edit.old.calls) if edit.old.calls else edit.new.calls
    return edit.kind, types, _shape_key(edit.old.shape, edit.new.shape), calls


def _shape_key(old: str, new: str) -> object:
    words = _NUMBERS.sub("#", old), _NUMBERS.sub("#", new)
    if words[0] != words[1]:
        return words
    pairs = zip(_NUMBERS.findall(old), _NUMBERS.findall(new), strict=True)
    return tuple(
        (place, Fraction(int(after), int(before)) if int(before) else after)
        for place, (before, after) in enumerate(pairs)
        if before != after
    )


def _at_like_places(one: _Places, other: _Places) -> bool:
    """Return whether the last names of the edited paths are equal. The path "" of a model equals any path."""
    for key, places in one.items():
        last_names, other_names = ({path.rpartition(".")[2] for path in found} for found in (places, other[key]))
        if last_names != other_names and "" not in last_names | other_names:
            return False
    return True


# The parts of a cause


def _general_edits(group: CauseGroup) -> Iterator[Edit]:
    for key in group.order:
        places = group.places[key]
        by_name: dict[str, list[str]] = {}
        for path in places:
            by_name.setdefault(path.rpartition(".")[2], []).append(path)
        if "" in by_name and len(by_name) > 1:
            by_name = {"": list(places)}
        for paths in by_name.values():
            first = places[paths[0]][1]
            yield msgspec.structs.replace(
                first,
                path=common_path(paths),
                count=sum(places[path][0] for path in paths),
                sources=tuple(dict.fromkeys(one for path in paths for one in places[path][1].sources)),
            )


def common_path(paths: Sequence[str]) -> str:
    """Return the end that all general paths share. "*." replaces beginnings that differ."""
    split = [path.split(".") for path in paths if path]
    if len(paths) == 1:
        return paths[0]
    common: list[str] = []
    for names in zip(*(reversed(one) for one in split), strict=False):
        if len(set(names)) > 1:
            break
        common.insert(0, names[0])
    return ".".join(common if common[:1] == ["*"] else ["*", *common])


def _ranges(verdicts: Sequence[Verdict]) -> Iterator[ChangeRange]:
    found: dict[str, list[tuple[int, int]]] = {}
    for verdict in verdicts:
        for change in verdict.comparison.changes:
            if not change.allowed:
                found.setdefault(change.metric, []).append((change.old, change.new))
    for metric in sort_metrics(found):
        pairs = sorted(found[metric], key=lambda pair: (pair[0] == 0, Fraction(pair[1], pair[0] or 1)))
        yield ChangeRange(metric=metric, smallest=pairs[0], largest=pairs[-1])


#: A command repeats at most this many node ids. If there are more, it names functions or files.
_MAX_IDS = 3


def cover(nodeids: Sequence[str], changed: Sequence[str]) -> list[str]:
    """Return what a command has to run for all of ``nodeids``, without other tests that changed if possible.

    Args:
        nodeids: the tests to run.
        changed: all tests of the run that an update would write, among them ``nodeids``.
    """
    if len(nodeids) <= _MAX_IDS:
        return list(nodeids)
    wanted = set(nodeids)
    others = [nodeid for nodeid in changed if nodeid not in wanted]
    found: dict[str, None] = {}
    for nodeid in nodeids:
        wider = (above for above in _wider(nodeid) if not any(is_below(other, above) for other in others))
        found[next(wider, nodeid)] = None
    return list(found)


def _wider(nodeid: str) -> Iterator[str]:
    """Yield what contains the test, the widest first: its file, its class, its function with all parameter sets."""
    file, _, test_id = nodeid.partition("::")
    head, bracket, _ = test_id.partition("[")
    yield file
    parts = head.split("::")
    for length in range(1, len(parts) + bool(bracket)):
        yield f"{file}::{'::'.join(parts[:length])}"
