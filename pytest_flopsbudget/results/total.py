"""Check limits on the sum over all measurements of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_flopsbudget.quantities.metrics import measured_value
from pytest_flopsbudget.results.limits import Limit, Violation, in_order, make_limit, to_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_flopsbudget.quantities.bounds import Bounds
    from pytest_flopsbudget.results.complexity import Complexity


class CheckedTotal(NamedTuple):
    """The limits on the sums of a run that are broken, and the sums that are beyond a warning."""

    broken: tuple[Violation, ...]
    warned: tuple[Violation, ...]


def total_limits(total: Mapping[str, Bounds], source: str) -> dict[str, Limit]:
    """Return metric key → limit on the sum of a run. ``source`` is the place where the limits are written."""
    return {metric: make_limit(bounds, source) for metric, bounds in total.items()}


def check_total(limits: Mapping[str, Limit], measurements: Iterable[Complexity]) -> CheckedTotal:
    """Check the sums of metrics over all measurements of a run.

    Args:
        limits: metric key → the limit on the sum. A measurement without the metric adds nothing to its sum.
        measurements: the measurements of the run.
    """
    sums: dict[str, int] = {}
    for one in measurements:
        for metric in limits:
            value = measured_value(one.metrics, metric)
            if value is not None:
                sums[metric] = sums.get(metric, 0) + int(value)
    broken: list[Violation] = []
    warned: list[Violation] = []
    for metric, limit in in_order(limits):
        value = sums.get(metric)
        if value is None:
            continue
        for bound, found in ((limit.maximum, broken), (limit.warning, warned)):
            if bound is not None and value > to_number(bound):
                found.append(Violation(metric=metric, module=None, measured=value, limit=bound, source=limit.source))
    passed = {item.metric for item in broken}
    return CheckedTotal(tuple(broken), tuple(item for item in warned if item.metric not in passed))
