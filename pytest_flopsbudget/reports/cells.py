"""Format the cells of tables, for the terminal and for Markdown."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.formatting import format_factor, format_percent, format_value
from pytest_flopsbudget.quantities.metrics import base_of, measured_value, metric_of
from pytest_flopsbudget.reports.law_changes import law_factor
from pytest_flopsbudget.reports.wording import estimate_sign
from pytest_flopsbudget.results.identity import DEFAULT_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.results.comparison import Comparison
    from pytest_flopsbudget.results.limits import Share
    from pytest_flopsbudget.results.verdict import Verdict


#: From this share of a limit on, the share is shown as a factor.
_LARGEST_SHARE = 10


def label(test_id: str, name: str, *, alone: bool) -> str:
    """Return the test's id and the measurement's name. The default name is omitted if the measurement is ``alone``."""
    return test_id if alone and name == DEFAULT_NAME else f"{test_id} {name}"


def change(comparison: Comparison, show: str = "flops") -> str:
    """Return the change of the metric ``show``: "+5.0%", "=" or "new"; "(other)" if only other metrics changed.

    Changes of other metrics count only if they are judged. MACs, sums and ratios are not compared. If ``show``
    is such a metric, return the change of FLOPs.
    """
    if comparison.status == "new":
        return "new"
    row = metric_of(show)
    key = show if row.per or not row.derived else "flops"
    work = [change for change in comparison.changes if key in (change.metric, base_of(change.metric))]
    if work:
        return format_percent(work[0].old, work[0].new)
    laws = [law for law in comparison.laws if law.metric == key]
    if laws:
        return law_factor(laws[0])
    return "(other)" if comparison.laws or any(change.judged for change in comparison.changes) else "="


def change_of(verdict: Verdict, show: str = "flops") -> str:
    """Return the change that matters: of the metric ``show``, or of a metric that fails the test, with its name.

    A model with 75% fewer FLOPs and 7.7% more parameters fails for its parameters: "params +7.7%". The text is empty
    for a new measurement, because its verdict is "new" as well.
    """
    if verdict.outcome == "new":
        return ""
    failing = [change for change in verdict.comparison.changes if not change.allowed]
    if not failing or any(show in {change.metric, base_of(change.metric)} for change in failing):
        return change(verdict.comparison, show)
    worst = max(failing, key=lambda one: Fraction(one.new, one.old) if one.old else Fraction(0))
    return f"{worst.metric} {format_percent(worst.old, worst.new)}"


def is_news(verdict: Verdict) -> bool:
    """Return whether a reader has to look at a measurement: it fails, differs from its baseline, or has a note."""
    noted = verdict.complexity.notes or verdict.complexity.unknown_operators or verdict.unjudged or verdict.warned
    quiet = verdict.outcome == "ok" and verdict.comparison.status in {"unchanged", "moved"}
    return verdict.fails or not quiet or bool(noted)


def amount(metrics: Mapping[str, int], show: str) -> str:
    """Return the value of the metric ``show``; empty if it was not measured."""
    value = measured_value(metrics, show)
    if value is None:
        return ""
    # An estimated time is a lower bound. The column has no space to say this in words, so it has a sign.
    return f"{estimate_sign(show)}{format_value(value, metric_of(show))}"


def used(share: Share | None) -> str:
    """Return the used share of a limit: "98.3%", from ten times the limit on "x12.3"; empty if there is no limit."""
    if share is None:
        return ""
    if isinstance(share.used, Fraction) and share.used >= _LARGEST_SHARE:
        return format_factor(share.used)
    # The share is rounded down: 100% means exactly the limit, and a larger number means beyond the limit.
    thousandths = 1000 if share.used == math.inf else int(share.used * 1000)
    if share.used > 1 and thousandths <= 1000:  # noqa: PLR2004 -- a full budget
        return ">100%"
    return f"{thousandths // 10}.{thousandths % 10}%" if thousandths != 1000 else "100%"  # noqa: PLR2004


def percent(part: Fraction | None) -> str:
    """Format the share of a part in a whole: "55.8%", "0%", "<0.1%"; empty if the share is unknown."""
    if part is None:
        return ""
    thousandths = round(part * 1000)
    if part and not thousandths:
        return "<0.1%"
    return f"{thousandths // 10}%" if thousandths % 10 == 0 else f"{thousandths // 10}.{thousandths % 10}%"
