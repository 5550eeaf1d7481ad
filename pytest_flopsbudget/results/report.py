"""The results of a whole run as data. All reports are made from this data. This module needs neither torch nor pytest.

The report does not depend on how the run was executed: tests are in the order of their files, and the report
does not say when the run was or how long it took.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from pytest_flopsbudget.config.settings import Reaction
from pytest_flopsbudget.results.causes import Cause, find_causes
from pytest_flopsbudget.results.data import Count
from pytest_flopsbudget.results.folding import natural_key
from pytest_flopsbudget.results.limits import Limit
from pytest_flopsbudget.results.total import CheckedTotal, check_total
from pytest_flopsbudget.results.verdict import UpdateMode, Verdict, would_pass

if TYPE_CHECKING:
    from collections.abc import Iterable


#: The version of the file format.
FORMAT: Literal[1] = 1

Update = Literal["all", "new", "improved"]


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The versions and settings of the run that made the report, and how the run ended."""

    #: Version of pytest-flopsbudget.
    plugin: str
    #: Version of pytest.
    pytest: str
    #: Version of PyTorch.
    torch: str
    #: Version of Python.
    python: str
    #: pytest's root folder relative to the top of the repository; "." if they are equal or there is no repository.
    #: Files and node ids are relative to pytest's root folder.
    root: str = "."
    #: The metric that reports show first. It is a setting of the pyproject.
    show: str = "flops"
    #: The pyproject's reaction to a measurement without a baseline.
    missing_baseline: Reaction = "warn"
    #: The pyproject's reaction to an operator that no formula covers.
    unknown_operators: Reaction = "warn"
    #: pytest's exit status: 0 all passed, 1 some failed, 2 interrupted, 3 internal error, 4 usage error, 5 no tests.
    exit_status: int = 0
    #: Whether the run ended before all tests ran, after a failure (``-x``) or an interrupt.
    stopped: bool = False
    #: Which measurements of passed tests the run accepted as new baselines; null if the run accepted none.
    update: Update | None = None
    #: Baseline files that the run wrote, sorted.
    written: tuple[str, ...] = ()
    #: Errors with baseline files, one sentence each.
    errors: tuple[str, ...] = ()
    #: Metric key → the limit on the sum over all measurements of the run.
    total_limits: dict[str, Limit] = {}
    #: The smallest number of measurements that --flops-budget-require asks for; 0 without the flag.
    required_measurements: Count = 0


class ReportedTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One test that measured something, or that no longer makes a measurement that its baseline contains."""

    #: pytest's node id.
    nodeid: str
    #: The test's file, relative to the root folder.
    file: str
    #: The line number of the test; the first line is 1.
    line: Count
    #: Whether all phases of the test passed.
    outcome: Literal["passed", "failed"]
    #: Whether the test failed for a reason other than its budget.
    own_failure: bool = False
    #: The measurements, in the order in which the test made them.
    measurements: tuple[Verdict, ...] = ()
    #: Names of measurements that the baseline contains and that the test did not make.
    vanished: tuple[str, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether the test fails because of its budget."""
        return any(measurement.fails for measurement in self.measurements)

    def would_pass(self, accepts: UpdateMode | Literal[True] = True) -> bool:
        """Return whether the test would pass in a run that accepts all (True) or some measurements."""
        failed_otherwise = self.own_failure or (self.outcome == "failed" and not self.fails)
        return not failed_otherwise and would_pass(self.measurements, accepts)


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The results of a pytest run: measurements, limits, baselines and verdicts."""

    #: The version of this format.
    format: Literal[1] = 1
    #: The run that made the report.
    run: Run
    #: The tests, sorted by file, line and node id.
    tests: tuple[ReportedTest, ...] = ()
    #: Why measurements fail: one cause for all tests with an equal change. The causes of most tests come first.
    causes: tuple[Cause, ...] = ()

    @property
    def measured(self) -> int:
        """The number of measurements."""
        return sum(len(test.measurements) for test in self.tests)

    @property
    def total(self) -> CheckedTotal:
        """The limits on the sum over all measurements that are broken, and the sums beyond a warning."""
        return check_total(self.run.total_limits, (one.complexity for test in self.tests for one in test.measurements))


def make_report(run: Run, tests: Iterable[ReportedTest]) -> Report:
    """Return the report of a run, with the tests sorted and the causes of their failures."""
    tests = ordered(tests)
    return Report(run=run, tests=tests, causes=find_causes([(test.nodeid, test.measurements) for test in tests]))


def ordered(tests: Iterable[ReportedTest]) -> tuple[ReportedTest, ...]:
    """Return the tests sorted by file, line and node id."""

    def place(test: ReportedTest) -> tuple[object, ...]:
        return test.nodeid.partition("::")[0], test.line, natural_key(test.nodeid)

    return tuple(sorted(tests, key=place))
