"""Describe changes that are not judged: of metrics that no baseline holds, and of kernels after a PyTorch update."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.metrics import metric_of, sort_metrics
from pytest_flopsbudget.reports.wording import format_change
from pytest_flopsbudget.safe_text import pluralize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_flopsbudget.results.verdict import Verdict


#: Marks a changed metric that no baseline holds, so that its growth fails no test.
NOT_HELD = "(not held)"


def moved_values(verdict: Verdict) -> Iterator[str]:
    """Yield a line for each metric that changed and is not judged."""
    for change in verdict.comparison.changes:
        if not change.judged:
            yield f"{change.metric}: {format_change(change.old, change.new, change.metric)} {NOT_HELD}"


def moved_in_run(verdicts: Iterable[Verdict], command: str) -> Iterator[str]:
    """Yield lines that sum up the unjudged changes of a run. Such changes are shown, but fail no test.

    Args:
        verdicts: the measurements whose values are not accepted yet.
        command: the command that accepts the measurements.
    """
    values: Counter[tuple[str, str]] = Counter()
    metrics: dict[str, None] = {}
    measurements = 0
    for verdict in verdicts:
        unjudged = [change.metric for change in verdict.comparison.changes if not change.judged]
        if verdict.comparison.pytorch_changed is not None:
            not_held = [metric for metric in unjudged if not metric_of(metric).of_kernels]
            values[verdict.comparison.pytorch_changed] += len(unjudged) - len(not_held)
            unjudged = not_held
        if unjudged:
            metrics.update(dict.fromkeys(unjudged))
            measurements += 1
    for (old, new), count in values.items():
        if count:
            moved = f"{pluralize(count, 'value')} of kernels moved"
            yield f"measured with PyTorch {old}, this is {new}: {moved}; to accept: {command}"
    if measurements:
        where = pluralize(measurements, "measurement")
        names = ", ".join(sort_metrics(metrics))
        yield f"moved in {where}, and not held to the baseline: {names}; to accept: {command}"
