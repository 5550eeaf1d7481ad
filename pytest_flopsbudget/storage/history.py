"""The history of measurements: revisions of baseline files → one series of values for each measurement."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_flopsbudget.storage.baseline_totals import Tests, Totals


class Address(NamedTuple):
    """The key that identifies a measurement in the baselines."""

    #: The test file.
    file: str
    #: The test id: the node id without its file.
    test_id: str
    #: The measurement's name within its test.
    name: str

    @property
    def nodeid(self) -> str:
        """The test's node id."""
        return f"{self.file}::{self.test_id}"


class Revision(NamedTuple):
    """One revision of the repository: a commit, or the uncommitted changes."""

    #: The short name of the commit.
    commit: str
    date: str
    subject: str


@dataclass(frozen=True, slots=True)
class Step:
    """The baseline files that one revision changed."""

    revision: Revision
    #: Test file → the content of its baseline after this revision; empty if the baseline was removed.
    files: Mapping[str, Tests]
    #: New test file → old test file, for test files that moved.
    moved: Mapping[str, str] = field(default_factory=dict)


class Point(NamedTuple):
    """The values of one measurement in one revision."""

    revision: Revision
    address: Address
    #: The costs; None if the revision removed the measurement.
    totals: Totals | None


@dataclass(slots=True)
class Series:
    """The history of one measurement under all its names. The oldest point is first."""

    points: list[Point]

    @property
    def address(self) -> Address:
        """The current address of the measurement. If the measurement was removed, this is its last address."""
        return self.points[-1].address

    @property
    def lives(self) -> bool:
        """Return whether the measurement is still in the baseline."""
        return self.points[-1].totals is not None

    @property
    def nodeids(self) -> set[str]:
        """All node ids that the measurement's test has had."""
        return {point.address.nodeid for point in self.points}

    def changes(self, metrics: Iterable[str]) -> list[Point]:
        """Return the first point, and every point at which a value or a law of ``metrics`` differs from before."""
        metrics = tuple(metrics)
        kept: list[Point] = []
        for point in self.points:
            if not kept or _values(point, metrics) != _values(kept[-1], metrics):
                kept.append(point)
        return kept


def trace(steps: Iterable[Step]) -> list[Series]:
    """Follow every measurement through ``steps``. The oldest step is first.

    If a measurement disappears and another one appears in the same step, the measurement counts as renamed in three
    cases. First: the test file moved. Second: only these two measurements have these costs, or these costs and this
    parameter set. Third: only these two measurements have this test id and name.

    Returns:
        One series for each measurement, by its current address.
    """
    files: dict[str, Tests] = {}
    living: dict[Address, Series] = {}
    ended: dict[Address, Series] = {}
    found: list[Series] = []
    for step in steps:
        before = {address: totals for file in step.files for address, totals in _entries(file, files.get(file, {}))}
        after = {address: totals for file, tests in step.files.items() for address, totals in _entries(file, tests)}
        files.update(step.files)
        gone = {address: totals for address, totals in before.items() if address not in after}
        come = {address: totals for address, totals in after.items() if address not in before}
        former = _renames(gone, come, step.moved)
        leaving = {old: living.pop(old) for old in gone}
        for address, old in former.items():
            living[address] = leaving.pop(old)
        for address, series in leaving.items():
            series.points.append(Point(step.revision, address, None))
            ended[address] = series
        for address, totals in after.items():
            if address not in living:
                if address not in ended:
                    found.append(Series([]))
                living[address] = ended.pop(address) if address in ended else found[-1]
            living[address].points.append(Point(step.revision, address, totals))
    return sorted(found, key=lambda series: series.address)


def _values(point: Point, metrics: tuple[str, ...]) -> tuple[object, ...] | None:
    if point.totals is None:
        return None
    laws = point.totals.laws
    return (
        *(point.totals.value(metric) for metric in metrics),
        *(laws.metrics.get(metric) for metric in metrics if laws is not None),
    )


def _entries(file: str, tests: Tests) -> Iterable[tuple[Address, Totals]]:
    return (
        (Address(file, test_id, name), totals) for test_id, entries in tests.items() for name, totals in entries.items()
    )


def _renames(
    gone: Mapping[Address, Totals], come: Mapping[Address, Totals], moved: Mapping[str, str]
) -> dict[Address, Address]:
    """Return new address → old address of the renamed measurements."""
    renames: dict[Address, Address] = {}
    for address in come:
        old = address._replace(file=moved.get(address.file, ""))
        if old in gone:
            renames[address] = old
    # Among measurements of equal cost, first pair those with equal names in different files. Then pair those with equal
    # parameter ids, whose test function was renamed.
    keys: tuple[Callable[[Address, Totals], object], ...] = (
        lambda address, totals: (address[1:], totals.identity),
        lambda address, totals: (address.test_id.partition("[")[1:], address.name, totals.identity),
        lambda _, totals: totals.identity,
        lambda address, _: address[1:],
    )
    for key in keys:
        taken = set(renames.values())
        alike: defaultdict[object, tuple[list[Address], list[Address]]] = defaultdict(lambda: ([], []))
        for side, addresses in enumerate((gone, come)):
            for address, totals in addresses.items():
                if address not in taken and address not in renames:
                    alike[key(address, totals)][side].append(address)
        renames |= {new[0]: old[0] for old, new in alike.values() if len(old) == len(new) == 1}
    return renames
