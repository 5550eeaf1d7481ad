"""What stands in the cells of tables, in the terminal as in Markdown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.formatting import format_percent, format_value
from pytest_flopsbudget.quantities.metrics import base_of, measured_value, metric_of
from pytest_flopsbudget.reports.wording import is_estimate
from pytest_flopsbudget.results.verdict import DEFAULT_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from pytest_flopsbudget.results.comparison import Comparison
    from pytest_flopsbudget.results.limits import Share


def label(test_id: str, name: str, *, alone: bool) -> str:
    """The test's id, with the measurement's name where that tells something: among several, or if it was given one."""
    return test_id if alone and name == DEFAULT_NAME else f"{test_id} {name}"


def change(comparison: Comparison, show: str = "flops") -> str:
    """How what is shown changed: "+5.0%", "=", "new"; "(other)" where something else did.

    MACs, sums and ratios are not compared; of those, it is the FLOPs' change.
    """
    if comparison.status == "new":
        return "new"
    row = metric_of(show)
    key = show if row.per or not row.derived else "flops"
    work = [change for change in comparison.changes if key in (change.metric, base_of(change.metric))]
    if work:
        return format_percent(work[0].old, work[0].new)
    return "(other)" if comparison.changes else "="


def amount(metrics: Mapping[str, int], show: str) -> str:
    """What is shown of a measurement, a module or a phase; empty where that was not measured of it."""
    value = measured_value(metrics, show)
    if value is None:
        return ""
    # An estimated time is a lower bound, which a column has no room to say in words.
    return f"{'>=' if is_estimate(show) else ''}{format_value(value, metric_of(show))}"


def used(share: Share | None) -> str:
    """How much of a limit is used: "98.3%"; empty where there is none."""
    if share is None:
        return ""
    # Cut, not rounded: 100% is shown for what uses the limit up to the last operation, and more only beyond it.
    thousandths = 1000 if share.used == math.inf else int(share.used * 1000)
    if share.used > 1 and thousandths <= 1000:  # noqa: PLR2004 -- a full budget
        return ">100%"
    return f"{thousandths // 10}.{thousandths % 10}%" if thousandths != 1000 else "100%"  # noqa: PLR2004


def percent(part: Fraction | None) -> str:
    """A part of a whole: "55.8%", "0%", "<0.1%"; empty where it is unknown."""
    if part is None:
        return ""
    thousandths = round(part * 1000)
    if part and not thousandths:
        return "<0.1%"
    return f"{thousandths // 10}%" if thousandths % 10 == 0 else f"{thousandths // 10}.{thousandths % 10}%"
