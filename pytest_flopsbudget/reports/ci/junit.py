"""A test's measurements as properties in the JUnit report, in the form of pytest's ``record_property``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.metrics import Amount, devices_in, key_for, metric_of, sort_metrics, value_of
from pytest_flopsbudget.results.identity import DEFAULT_NAME
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_flopsbudget.results.verdict import Verdict


PREFIX = "flops_budget."


def properties(verdicts: Iterable[Verdict]) -> Iterator[tuple[str, int | str]]:
    """Yield (name, value) of each property: ``flops_budget.flops``, or ``flops_budget.student.flops`` with a name.

    The properties are the measured metrics, the old values of changed metrics, the limits and the verdict.
    """
    for verdict in verdicts:
        yield from ((visible(name), value) for name, value in _properties(verdict))


def _properties(verdict: Verdict) -> Iterator[tuple[str, int | str]]:
    prefix = PREFIX if verdict.name == DEFAULT_NAME else f"{PREFIX}{verdict.name}."
    before = {change.metric: change.old for change in verdict.comparison.changes}
    metrics = verdict.complexity.metrics
    told = {*metrics, *(key_for("time", device) for device in devices_in(metrics))}
    for key in sort_metrics({*told, *before, *verdict.limits}):
        value = value_of(metrics, key)
        # A derived metric is included only if it has a limit.
        if value is not None and (key in told or metric_of(key).over):
            yield f"{prefix}{key}", _number(value)
        if key in before:
            yield f"{prefix}{key}.baseline", before[key]
        bound = verdict.limits[key].bound(key) if key in verdict.limits else None
        if bound is not None:
            yield f"{prefix}{key}.limit", _number(bound)
    for uneven in verdict.unjudged:
        yield f"{prefix}{uneven.metric}.judged", "false"
    yield f"{prefix}verdict", verdict.outcome


def _number(value: Amount) -> int | str:
    return value if isinstance(value, int) else str(float(value))
