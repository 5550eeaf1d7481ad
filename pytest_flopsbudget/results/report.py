"""What a whole run found, as data: the one model from which all reports are made. Needs neither torch nor pytest.

Nothing in it hangs on how the run was made: tests stand in the order of their files, and there are no times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from pytest_flopsbudget.config.settings import Reaction
from pytest_flopsbudget.results.complexity import Count
from pytest_flopsbudget.results.folding import natural_key
from pytest_flopsbudget.results.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable


#: The version of the file's form.
FORMAT: Literal[1] = 1

Update = Literal["all", "new", "improved"]


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What made the report."""

    #: Version of pytest-flopsbudget.
    plugin: str
    #: Version of pytest.
    pytest: str
    #: Version of PyTorch.
    torch: str
    #: Version of Python.
    python: str
    #: pytest's root folder, seen from the top of the repository; "." where it is that, or where there is none. Files
    #: and node ids begin there.
    root: str = "."
    #: The metric that reports for people show first, as the pyproject says.
    show: str = "flops"
    #: What the pyproject makes of a measurement without a baseline.
    missing_baseline: Reaction = "warn"
    #: What the pyproject makes of an operator that no formula covers.
    unknown_operators: Reaction = "warn"
    #: What the run ended with: 0 all passed, 1 some failed, 2 interrupted, 3 internal error, 4 usage error, 5 no tests.
    exit_status: int = 0
    #: Whether it ended before all of its tests ran, after a failure (``-x``) or an interrupt.
    stopped: bool = False
    #: What it accepted as the new baseline, of the tests that passed; null where it accepted nothing.
    update: Update | None = None
    #: Baseline files that it wrote, sorted.
    written: tuple[str, ...] = ()
    #: What went wrong with them, a sentence each.
    errors: tuple[str, ...] = ()


class ReportedTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One test that measured something, or that no longer measured what its baseline holds."""

    #: pytest's node id.
    nodeid: str
    #: The test's file, as seen from the root folder.
    file: str
    #: Its line, from 1 on.
    line: Count
    #: Whether all of its phases passed.
    outcome: Literal["passed", "failed"]
    #: Whether it failed for a reason of its own, instead of its budget or besides it.
    own_failure: bool = False
    #: What it measured, in its own order.
    measurements: tuple[Verdict, ...] = ()
    #: Names in its baseline that it did not measure.
    vanished: tuple[str, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether its budget fails it."""
        return any(measurement.fails for measurement in self.measurements)


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of pytest: what was measured, what it was held to, and what became of it."""

    #: The version of this form.
    format: Literal[1] = 1
    #: What made it.
    run: Run
    #: By file, line and node id.
    tests: tuple[ReportedTest, ...] = ()


def ordered(tests: Iterable[ReportedTest]) -> tuple[ReportedTest, ...]:
    """The tests as they stand in their files."""

    def place(test: ReportedTest) -> tuple[object, ...]:
        return test.nodeid.partition("::")[0], test.line, natural_key(test.nodeid)

    return tuple(sorted(tests, key=place))
