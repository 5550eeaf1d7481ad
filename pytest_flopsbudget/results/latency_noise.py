"""Decide whether a latency is stable enough to be judged, and keep old latencies when an entry is replaced."""

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
    """A latency that is not compared with any limit or baseline, because its runs vary too much."""

    #: The key with the machine's name: "latency[…]".
    metric: str
    #: The median in nanoseconds: half of the runs took at most this long.
    median_ns: int
    #: The interquartile range of the runs, in nanoseconds.
    spread_ns: int
    #: The maximum spread of a latency that is judged, in nanoseconds: the tolerance of the latency.
    allowed_ns: int
    #: Whether a limit or the baseline would apply if the runs varied less. If not, texts do not mention this latency.
    has_budget: bool = True


def find_noisy_latency(
    complexity: Complexity, tolerance: Mapping[str, Tolerance], *, has_budget: bool = True
) -> tuple[NoisyLatency, ...]:
    """Return the latency of ``complexity`` if its spread exceeds the tolerance; otherwise an empty tuple.

    Args:
        complexity: the measurement.
        tolerance: Metric key → the growth that passes.
        has_budget: whether a limit or the baseline applies to latencies.
    """
    measured = complexity.timing
    if measured is None:
        return ()
    allowed = tolerance.get("latency", LATENCY_TOLERANCE).growth(measured.median_ns)
    if measured.spread_ns <= allowed:
        return ()
    metric = key_for("latency", measured.machine)
    found = NoisyLatency(
        metric=metric,
        median_ns=measured.median_ns,
        spread_ns=measured.spread_ns,
        allowed_ns=allowed,
        has_budget=has_budget,
    )
    return (found,)


def without_metrics(complexity: Complexity, metrics: Collection[str]) -> Complexity:
    """Return ``complexity`` without the whole model's values of ``metrics``. Modules keep their values."""
    if not metrics:
        return complexity
    return replace(complexity, metrics={key: value for key, value in complexity.metrics.items() if key not in metrics})


def keep_latencies(complexity: Complexity, old: Complexity | None) -> Complexity:
    """Return ``complexity`` plus the latencies that only ``old`` has.

    Such a latency is of another machine, or of this machine if the latency was not measured again.
    """
    kept = {} if old is None else {key: value for key, value in old.metrics.items() if base_of(key) == "latency"}
    return (
        replace(complexity, metrics=kept | complexity.metrics)
        if kept.keys() - complexity.metrics.keys()
        else complexity
    )
