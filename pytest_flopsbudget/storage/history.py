"""The past of measurements: revisions of baseline files, oldest first → a series of values each."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_flopsbudget.quantities.metrics import Amount
    from pytest_flopsbudget.storage.baseline_totals import Tests, Totals


class Address(NamedTuple):
    """The key of a measurement in the baselines."""

    #: The test file.
    file: str
    #: The node id after it.
    test_id: str
    #: The measurement's name within its test.
    name: str

    @property
    def nodeid(self) -> str:
        """The test's node id."""
        return f"{self.file}::{self.test_id}"


class Revision(NamedTuple):
    """A state of the baselines."""

    #: The short name of the commit.
    commit: str
    date: str
    subject: str


@dataclass(frozen=True, slots=True)
class Step:
    """The baseline files that one revision changed."""

    revision: Revision
    #: Test file → what its baseline holds from now on; nothing where it was removed.
    files: Mapping[str, Tests]
    #: Test file → the one that it was before, of those that moved.
    moved: Mapping[str, str] = field(default_factory=dict)


class Point(NamedTuple):
    """A measurement as of one revision."""

    revision: Revision
    address: Address
    #: None where the revision removed it.
    totals: Totals | None


@dataclass(slots=True)
class Series:
    """The past of one measurement, oldest first, through all of its names."""

    points: list[Point]

    @property
    def address(self) -> Address:
        """The name that it has now, or had last."""
        return self.points[-1].address

    @property
    def lives(self) -> bool:
        """Return whether the measurement is still in the baseline."""
        return self.points[-1].totals is not None

    @property
    def nodeids(self) -> set[str]:
        """All node ids that its test has had."""
        return {point.address.nodeid for point in self.points}

    def changes(self, metrics: Iterable[str]) -> list[Point]:
        """The first point, and those at which a value of ``metrics`` is another than before."""
        metrics = tuple(metrics)
        kept: list[Point] = []
        for point in self.points:
            if not kept or _values(point, metrics) != _values(kept[-1], metrics):
                kept.append(point)
        return kept


def trace(steps: Iterable[Step]) -> list[Series]:
    """Follow every measurement through ``steps``, oldest first.

    One that goes in the same step in which another comes is taken to be renamed where its file moved, where both cost
    the same and no third one does, or where both have one name in two files and no third one does.

    Returns:
        The series, by what they are called now.
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


def _values(point: Point, metrics: tuple[str, ...]) -> tuple[Amount | None, ...] | None:
    return None if point.totals is None else tuple(point.totals.value(metric) for metric in metrics)


def _entries(file: str, tests: Tests) -> Iterable[tuple[Address, Totals]]:
    return (
        (Address(file, test_id, name), totals) for test_id, entries in tests.items() for name, totals in entries.items()
    )


def _renames(
    gone: Mapping[Address, Totals], come: Mapping[Address, Totals], moved: Mapping[str, str]
) -> dict[Address, Address]:
    """New address → old address."""
    renames: dict[Address, Address] = {}
    for address in come:
        old = address._replace(file=moved.get(address.file, ""))
        if old in gone:
            renames[address] = old
    # Of several that cost the same, those that kept their name went to another file, those that kept their parameters
    # are of a function that was renamed.
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
