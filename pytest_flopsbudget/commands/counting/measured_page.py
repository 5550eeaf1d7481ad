"""The HTML page of measurements that no test made."""

from __future__ import annotations

from platform import python_version
from typing import TYPE_CHECKING

import torch
from msgspec.structs import replace

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.reports.html import page
from pytest_flopsbudget.results.identity import DEFAULT_NAME
from pytest_flopsbudget.results.report import Report, ReportedTest, Run
from pytest_flopsbudget.results.verdict import Measurement, judge
from pytest_flopsbudget.safe_text import visible
from pytest_flopsbudget.versions import own_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flopsbudget.results.complexity import Complexity


def page_text(measurements: Sequence[tuple[str, Complexity]], before: tuple[str, Complexity] | None = None) -> str:
    """Return the page.

    Args:
        measurements: label and measurement.
        before: label and measurement to compare each of the others with; None for no comparison.
    """
    old = None if before is None else before[1]
    tests = [_as_test(label, complexity, old) for label, complexity in measurements]
    run = Run(plugin=own_version(), pytest="", torch=torch.__version__, python=python_version())
    how = "Measured" if before is None else f"Compared with {visible(before[0])}"
    headline = f"{how}, without a budget."
    return page.text(Report(run=run, tests=tuple(tests)), words=headline)


def _as_test(label: str, complexity: Complexity, before: Complexity | None) -> ReportedTest:
    verdict = judge(Measurement(name=DEFAULT_NAME, complexity=complexity), [], Settings(), before, accepts=False)
    # Without a budget, nothing is over a limit and nothing has regressed.
    shown = replace(verdict, outcome="ok" if before is None else "changed", fails=False, failing=())
    return ReportedTest(nodeid=label, file="", line=1, outcome="passed", measurements=(shown,))
