"""Merge the reports of a run that was split between several machines into one report of the whole run."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_flopsbudget.errors import ReportError
from pytest_flopsbudget.results.report import make_report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flopsbudget.results.report import Report, ReportedTest, Run


#: Fields that may differ between the parts of one run.
_OWN = frozenset({"exit_status", "stopped", "written", "errors"})
#: pytest's exit codes by ascending priority. The merged report gets the exit code of highest priority.
_BY_WEIGHT = (5, 0, 1, 2, 4, 3)
_NO_TESTS, _PASSED = 5, 0


def merge_reports(reports: Mapping[str, Report]) -> Report:
    """Merge the reports of the parts of one run.

    If several reports contain a test, the report in which the test failed is used.

    Args:
        reports: The name of a report in messages → the report. There is at least one report.

    Raises:
        ReportError: the reports are not of one run, or two of them have different measurements of one test.
    """
    names = list(reports)
    for name in names[1:]:
        _check_common(names[0], reports[names[0]].run, name, reports[name].run)
    found: dict[str, tuple[str, ReportedTest]] = {}
    for name, report in reports.items():
        for test in report.tests:
            known_name, known = found.get(test.nodeid, (name, test))
            found[test.nodeid] = name, _one_of(known_name, known, name, test)
    return make_report(_run([report.run for report in reports.values()]), [test for _, test in found.values()])


def failing(report: Report) -> list[ReportedTest]:
    """Return the tests that failed, because of their budgets or for another reason."""
    return [test for test in report.tests if test.outcome == "failed" or test.fails]


def fails(report: Report) -> bool:
    """Return whether the run failed. Failures of tests without measurements count too."""
    too_few = report.measured < report.run.required_measurements
    return bool(failing(report) or report.total.broken or too_few) or report.run.exit_status not in {_PASSED, _NO_TESTS}


def _check_common(first_name: str, first: Run, name: str, run: Run) -> None:
    for field in first.__struct_fields__:
        one, other = getattr(first, field), getattr(run, field)
        if field not in _OWN and one != other:
            raise ReportError(
                f"{first_name} and {name} are not of one run: {field} is {_shown(one)} in one and {_shown(other)} "
                "in the other; merge the reports of one run's shards"
            )


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)


def _one_of(known_name: str, known: ReportedTest, name: str, test: ReportedTest) -> ReportedTest:
    """Return the record to keep of a test that is in two reports. If one record failed, it is kept."""
    if known.measurements and test.measurements and _measured(known) != _measured(test):
        raise ReportError(
            f"{test.nodeid} was measured differently in {known_name} and in {name}; run the test once more to see "
            "which one is right; if a count depends on the machine, this is a bug: please report it"
        )
    return max(known, test, key=_severity)


def _measured(test: ReportedTest) -> Sequence[object]:
    return [(measurement.name, measurement.complexity) for measurement in test.measurements]


def _severity(test: ReportedTest) -> tuple[bool, bool, int]:
    return test.outcome == "failed" or test.fails, test.own_failure, len(test.measurements)


def _run(runs: Sequence[Run]) -> Run:
    return functools.reduce(
        lambda one, other: replace(
            one,
            exit_status=max(one.exit_status, other.exit_status, key=_weight),
            stopped=one.stopped or other.stopped,
            written=tuple(sorted({*one.written, *other.written})),
            errors=tuple(dict.fromkeys((*one.errors, *other.errors))),
        ),
        runs,
    )


def _weight(status: int) -> tuple[int, int]:
    return (_BY_WEIGHT.index(status) if status in _BY_WEIGHT else len(_BY_WEIGHT)), status
