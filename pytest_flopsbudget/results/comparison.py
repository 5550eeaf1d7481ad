"""One measurement held against what was accepted before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from pytest_flopsbudget.results.complexity import Complexity, Execution
from pytest_flopsbudget.results.metrics import STORED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_flopsbudget.units import Tolerance

Status = Literal["new", "unchanged", "regressed", "improved", "within"]


class MetricChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric whose value is no longer that of the baseline."""

    metric: str
    old: int
    new: int
    #: False where it grew beyond its tolerance.
    allowed: bool


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement held against its baseline. Plain data, fit to travel between processes."""

    #: "regressed": a metric grew beyond its tolerance; "within": some grew, none of them beyond; "improved": none grew,
    #: some shrank; "new": there is no baseline.
    status: Status
    #: The metrics that changed, in the order in which tables show them.
    changes: tuple[MetricChange, ...] = ()
    #: The old and the new signature, where they differ: then the costs differ for that reason too.
    inputs_changed: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    #: How the model ran, old and new, where that differs.
    execution_changed: tuple[Execution, Execution] | None = None
    #: Whether the backward pass was in the numbers, old and new, where that differs.
    backward_changed: tuple[bool, bool] | None = None
    #: Metrics in the baseline that were not measured now.
    vanished: tuple[str, ...] = ()


def compare(old: Complexity | None, new: Complexity, tolerance: Mapping[str, Tolerance]) -> Comparison:
    """Hold a measurement against its baseline.

    Args:
        old: The baseline; None if there is none.
        new: The measurement.
        tolerance: Stored metric key → the growth that passes; none passes for a metric that is not among them.
    """
    if old is None:
        return Comparison(status="new")
    changes = tuple(
        MetricChange(key, before, after, after < before or (key in tolerance and tolerance[key].allows(before, after)))
        for key in STORED
        if key in old.metrics and key in new.metrics
        if (before := old.metrics[key]) != (after := new.metrics[key])
    )
    return Comparison(
        status=_status(changes),
        changes=changes,
        inputs_changed=(old.inputs, new.inputs) if old.inputs != new.inputs else None,
        execution_changed=(old.execution, new.execution) if old.execution != new.execution else None,
        backward_changed=(old.backward, new.backward) if old.backward != new.backward else None,
        vanished=tuple(key for key in old.metrics if key not in new.metrics),
    )


def _status(changes: Iterable[MetricChange]) -> Status:
    if not all(change.allowed for change in changes):
        return "regressed"
    if any(change.new > change.old for change in changes):
        return "within"
    return "improved" if changes else "unchanged"
