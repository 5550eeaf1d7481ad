"""When a measured latency is fit to be judged, and how one that a baseline holds outlives runs of other machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from pytest_flopsbudget.config.settings import LATENCY_TOLERANCE
from pytest_flopsbudget.quantities.metrics import base_of, key_for

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pytest_flopsbudget.quantities.tolerance import Tolerance
    from pytest_flopsbudget.results.complexity import Complexity


class NoisyLatency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A latency that was held to no limit and to no baseline, as its runs differ by more than would be judged."""

    #: "latency[…]", with the machine's name.
    metric: str
    #: Nanoseconds that half of the runs took at most.
    median_ns: int
    #: Their interquartile range.
    spread_ns: int
    #: The largest spread that would have been judged, which is the latency's tolerance.
    allowed_ns: int


def find_noisy_latency(complexity: Complexity, tolerance: Mapping[str, Tolerance]) -> tuple[NoisyLatency, ...]:
    """The latency of ``complexity`` where its spread is wider than the tolerance.

    Args:
        complexity: the measurement.
        tolerance: Metric key → the growth that passes.
    """
    measured = complexity.timing
    if measured is None:
        return ()
    allowed = tolerance.get("latency", LATENCY_TOLERANCE).growth(measured.median_ns)
    if measured.spread_ns <= allowed:
        return ()
    metric = key_for("latency", measured.machine)
    return (
        NoisyLatency(metric=metric, median_ns=measured.median_ns, spread_ns=measured.spread_ns, allowed_ns=allowed),
    )


def without_metrics(complexity: Complexity, metrics: Collection[str]) -> Complexity:
    """``complexity`` as if the ``metrics`` of the whole model had not been measured."""
    if not metrics:
        return complexity
    return replace(complexity, metrics={key: value for key, value in complexity.metrics.items() if key not in metrics})


def keep_latencies(complexity: Complexity, old: Complexity | None) -> Complexity:
    """``complexity`` with the latencies that ``old`` holds besides.

    They are of other machines, or of this one where it was not measured anew.
    """
    kept = {} if old is None else {key: value for key, value in old.metrics.items() if base_of(key) == "latency"}
    return (
        replace(complexity, metrics=kept | complexity.metrics)
        if kept.keys() - complexity.metrics.keys()
        else complexity
    )
