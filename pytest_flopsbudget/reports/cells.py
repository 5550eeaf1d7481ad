"""What stands in the cells of tables, in the terminal as in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.fixture import DEFAULT_NAME
from pytest_flopsbudget.units import format_percent

if TYPE_CHECKING:
    from pytest_flopsbudget.results.comparison import Comparison
    from pytest_flopsbudget.results.limits import Share


def label(test_id: str, name: str, *, alone: bool) -> str:
    """The test's id, with the measurement's name where that tells something: among several, or if it was given one."""
    return test_id if alone and name == DEFAULT_NAME else f"{test_id} {name}"


def change(comparison: Comparison) -> str:
    """How the work changed: "+5.0%", "=", "new"; "(other)" where something else did."""
    if comparison.status == "new":
        return "new"
    work = [change for change in comparison.changes if change.metric == "flops"]
    if work:
        return format_percent(work[0].old, work[0].new)
    return "(other)" if comparison.changes else "="


def used(share: Share | None) -> str:
    """How much of a limit is used: "98.3%"; empty where there is none."""
    if share is None:
        return ""
    # Cut, not rounded: 100% is shown for what uses the limit up to the last operation, and more only beyond it.
    thousandths = share.measured * 1000 // share.limit if share.limit else 1000
    if share.measured > share.limit and thousandths <= 1000:  # noqa: PLR2004 -- a full budget
        return ">100%"
    return f"{thousandths // 10}.{thousandths % 10}%" if thousandths != 1000 else "100%"  # noqa: PLR2004
