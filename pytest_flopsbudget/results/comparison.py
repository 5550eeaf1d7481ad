"""Compare one measurement with its baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from pytest_flopsbudget.config.settings import LATENCY_TOLERANCE
from pytest_flopsbudget.quantities.metrics import (
    COMPARED,
    METRICS,
    base_of,
    baseline_metrics,
    count_of,
    devices_in,
    implied_count,
    is_optional,
    key_for,
    sort_metrics,
)
from pytest_flopsbudget.results.data import Execution
from pytest_flopsbudget.results.identity import ids_of_equal_cost, is_another_model
from pytest_flopsbudget.results.law_changes import LawChange, compare_laws

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from pytest_flopsbudget.quantities.tolerance import Tolerance
    from pytest_flopsbudget.results.complexity import Complexity


Status = Literal["new", "unchanged", "regressed", "improved", "changed", "within", "moved"]


class MetricChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric whose value differs from the baseline's."""

    metric: str
    old: int
    new: int
    #: Whether the change passes: the tolerance allows it, or the metric is not judged.
    allowed: bool
    #: Whether the change is judged. If not, the change is shown and has no effect on the test: the baseline does not
    #: hold the metric, or another version of PyTorch ran other kernels.
    judged: bool = True
    #: The largest growth that the tolerance allows, in the metric's unit.
    tolerated: int = 0


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The comparison of one measurement with its baseline. It is plain data, which can be sent to other processes."""

    #: "regressed": a metric grew beyond its tolerance. "within": metrics grew, but within their tolerance. "improved":
    #: no metric grew and some shrank. "changed": like "improved", but the baseline is of another input or model.
    #: "moved": only metrics that are not judged changed. "new": there is no baseline.
    status: Status
    #: The metrics that changed, in the order in which tables show them.
    changes: tuple[MetricChange, ...] = ()
    #: Metrics that differ and that are judged in another way: compute_time as a part of time; a metric with a law by
    #: its law, if the range of sizes changed and with it the largest sizes.
    parts: tuple[MetricChange, ...] = ()
    #: Latencies that differ from the baseline's by no more than their tolerance; no change is reported for them.
    steady: tuple[str, ...] = ()
    #: (old, new) input signature if they differ. Other inputs change the costs too.
    inputs_changed: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    #: Whether the baseline is of another model. This is checked only if the id may have moved to another model.
    another_model: bool = False
    #: Other ids whose baselines have the model, the input and the cost of this measurement.
    equal_to: tuple[str, ...] = ()
    #: (old, new) execution of the model, if they differ.
    execution_changed: tuple[Execution, Execution] | None = None
    #: Whether the backward pass was counted: (old, new), if they differ.
    backward_changed: tuple[bool, bool] | None = None
    #: (old, new) minor version of PyTorch, if they differ. Metrics that depend on kernels are not judged then.
    pytorch_changed: tuple[str, str] | None = None
    #: The laws that differ from the baseline's. Each was compared for all sizes that both have.
    laws: tuple[LawChange, ...] = ()
    #: (old, new) range of the sizes of laws, if they differ: "sequence = 128 ... 8,192".
    range_changed: tuple[str, str] | None = None
    #: Metrics of the baseline that every run should measure, but that this run did not measure, and laws.
    vanished: tuple[str, ...] = ()
    #: Metrics that this run measured and that the baseline lacks.
    added: tuple[str, ...] = ()
    #: The revision that ``--flops-budget-compare`` measured in place of the baseline; empty for a baseline file.
    revision: str = ""


def compare(
    old: Complexity | None,
    new: Complexity,
    tolerance: Mapping[str, Tolerance],
    neighbours: Callable[[], Mapping[str, Complexity]] | None = None,
    *,
    hold: Collection[str] = COMPARED,
) -> Comparison:
    """Compare a measurement with its baseline.

    Args:
        old: The baseline; None if there is none.
        new: The measurement.
        tolerance: Metric key, without names of devices or machines → the growth that passes. A metric that is not
            listed may not grow; a latency has a default tolerance. The parts of a time are not judged.
        neighbours: returns id → entry, for other baseline entries that may be of the same model. None if the id of the
            measurement always belongs to the same model.
        hold: The metrics that the baseline holds, without names of devices or machines. Changes of other metrics are
            found, but not judged.
    """
    if old is None:
        return Comparison(status="new")
    both_known = bool(old.pytorch and new.pytorch)
    pytorch_changed = (old.pytorch, new.pytorch) if both_known and old.pytorch != new.pytorch else None
    judged = frozenset(key for key in hold if not (pytorch_changed and METRICS[key].of_kernels))
    # This is a fast path: most measurements are unchanged, and there may be thousands.
    after = baseline_metrics(new.metrics)
    # A measurement leaves out a metric like "masked_flops" if it equals another one. A baseline that lacks it may be
    # older than the metric, so only the measurement's values are completed.
    equal = (key for key in old.metrics if key not in after and isinstance(METRICS[base_of(key)].absent, str))
    left_out = {key: implied_count(new.metrics, key) for key in equal}
    after |= {key: value for key, value in left_out.items() if value is not None}
    both = set() if old.metrics == after else old.metrics.keys() & after.keys()
    parts = {key for key in both if base_of(key) in _PARTS}
    times = {key_for("time", device) for device in devices_in(parts)}
    laws = compare_laws(old.laws, new.laws, tolerance, judged)
    if laws.range_changed is not None:
        # The totals are of the largest sizes, and those are others now.
        parts |= laws.judged & both
        times -= laws.judged
    changes = tuple(_changes(old.metrics, after, sort_metrics(both - parts | times), tolerance, judged))
    equal_to: tuple[str, ...] = ()
    another_model = False
    if (changes or laws.changes) and neighbours is not None:
        equal_to = ids_of_equal_cost(new, neighbours())
        another_model = is_another_model(old, new) or (bool(equal_to) and old.inputs == new.inputs)
    status = _status(changes, laws.changes)
    another = another_model or equal_to or laws.range_changed
    return Comparison(
        status="changed" if status == "improved" and another else status,
        changes=changes,
        steady=tuple(
            key
            for key in sort_metrics(both)
            if base_of(key) == "latency" and key not in {change.metric for change in changes}
        ),
        parts=tuple(
            MetricChange(key, old.metrics[key], after[key], allowed=True)
            for key in sort_metrics(parts)
            if old.metrics[key] != after[key]
        ),
        inputs_changed=(old.inputs, new.inputs) if old.inputs != new.inputs else None,
        another_model=another_model,
        equal_to=equal_to,
        execution_changed=(old.execution, new.execution) if old.execution != new.execution else None,
        pytorch_changed=pytorch_changed,
        backward_changed=(old.backward, new.backward) if old.backward != new.backward else None,
        laws=laws.changes,
        range_changed=laws.range_changed,
        vanished=(
            *(key for key in old.metrics if key not in after and not is_optional(key)),
            *laws.vanished,
        ),
        added=tuple(key for key in after if key not in old.metrics),
    )


def before(comparison: Comparison, metrics: Mapping[str, int]) -> dict[str, int]:
    """Return the baseline's values of the metrics that were measured again; an empty dict without a baseline.

    ``metrics`` are the new values. A metric that the baseline lacks is left out. A latency that is within its tolerance
    has the new value.
    """
    if comparison.status == "new":
        return {}
    known = {key: value for key, value in baseline_metrics(metrics).items() if key not in comparison.added}
    changed = (*comparison.changes, *comparison.parts)
    return {**known, **{change.metric: change.old for change in changed if change.metric in known}}


_PARTS = METRICS["time"].derived


def _changes(
    old: Mapping[str, int],
    new: Mapping[str, int],
    keys: Iterable[str],
    tolerance: Mapping[str, Tolerance],
    judged: Collection[str],
) -> Iterator[MetricChange]:
    for key in keys:
        before, after = count_of(old, key), count_of(new, key)
        if before is None or after is None or before == after:
            continue
        base = base_of(key)
        if base == "latency":
            # Two timings are never equal: a latency within its tolerance counts as unchanged.
            own = tolerance.get(base, LATENCY_TOLERANCE)
            if not own.allows(min(before, after), max(before, after)):
                allowed = after < before or base not in judged
                yield MetricChange(key, before, after, allowed, base in judged, own.growth(before))
        elif base not in judged:
            yield MetricChange(key, before, after, allowed=True, judged=False)
        else:
            tolerated = tolerance[base].growth(before) if base in tolerance else 0
            yield MetricChange(key, before, after, after < before or after - before <= tolerated, tolerated=tolerated)


def _status(changes: Collection[MetricChange], laws: Collection[LawChange]) -> Status:
    judged = [change for change in changes if change.judged]
    if not (all(change.allowed for change in judged) and all(law.allowed for law in laws)):
        return "regressed"
    if any(change.new > change.old for change in judged) or any(law.grows for law in laws):
        return "within"
    if judged or laws:
        return "improved"
    return "moved" if changes else "unchanged"


def tightens(comparison: Comparison) -> bool:
    """Return whether the measurement tightens its baseline: some metrics shrank, and no metric grew.

    The whole entry is accepted, or nothing of it: a mixture of two measurements would describe a model that never
    existed. A measurement with other inputs, another execution or fewer metrics does not tighten the baseline.
    """
    another = (
        comparison.inputs_changed
        or comparison.range_changed
        or comparison.execution_changed
        or comparison.backward_changed
    )
    # With another PyTorch, a metric of kernels is not judged even if it is held, so its growth is unnoticed.
    grew = comparison.pytorch_changed and any(one.new > one.old and not one.judged for one in comparison.changes)
    return comparison.status == "improved" and not another and not grew and not comparison.vanished
