"""An anchor: limits that follow from the baseline of an earlier revision, against many small growths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_flopsbudget.quantities.metrics import METRICS, base_of
from pytest_flopsbudget.results.diff import FOLLOWS
from pytest_flopsbudget.results.limits import EffectiveLimits, Limit, to_number

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pytest_flopsbudget.quantities.tolerance import Tolerance
    from pytest_flopsbudget.results.complexity import Complexity

#: The beginning of the source of a limit that an anchor sets. The revision follows.
ANCHOR = "anchor "


def anchor_limits(
    earlier: Complexity, measured: Complexity, held: Collection[str], tolerance: Mapping[str, Tolerance], revision: str
) -> dict[str, Limit]:
    """Return metric key → the largest value that the tolerance over the earlier value allows.

    Only metrics that belong to the model are limited. Other metrics also depend on the version of PyTorch. A metric
    that grew in proportion to a metric that it follows, such as the bytes of parameters, has no limit beside it.

    Args:
        earlier: The baseline entry of the earlier revision.
        measured: The measurement.
        held: The metrics that the baseline holds.
        tolerance: Metric key → allowed growth.
        revision: The name of the earlier revision.
    """
    return {
        metric: Limit(value + tolerance[base_of(metric)].growth(value), f"{ANCHOR}{revision}")
        for metric, value in earlier.metrics.items()
        if metric in held
        and metric in METRICS
        and not METRICS[metric].of_kernels
        and not _follows(metric, FOLLOWS.get(metric), earlier.metrics, measured.metrics)
    }


def _follows(metric: str, leading: str | None, earlier: Mapping[str, int], measured: Mapping[str, int]) -> bool:
    if leading is None or any(key not in metrics for key in (metric, leading) for metrics in (earlier, measured)):
        return False
    return earlier[metric] * measured[leading] == measured[metric] * earlier[leading]


def with_anchor(effective: EffectiveLimits, anchor: Mapping[str, Limit]) -> EffectiveLimits:
    """Return the limits with those of the anchor where no other limit on the metric is smaller."""
    limits = dict(effective.limits)
    for metric, limit in anchor.items():
        known = limits.get(metric)
        if known is None:
            limits[metric] = limit
        elif known.share_of is None and _is_larger(known, limit):
            limits[metric] = replace(known, maximum=limit.maximum, source=limit.source)
    return replace(effective, limits=limits)


def _is_larger(known: Limit, limit: Limit) -> bool:
    if known.maximum is None or limit.maximum is None:
        return known.maximum is None
    return to_number(known.maximum) > to_number(limit.maximum)
