"""The table of metrics: a new metric is one row here and the place that measures it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Unit = Literal["FLOPs", "MACs", "count", "bytes", "ns", "FLOPs/byte", "FLOPs/step"]
Aggregation = Literal["sum", "distinct", "peak"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured quantity; every value of it is an exact integer, and less is better."""

    #: The name in markers, in the pyproject, in baselines and reports.
    key: str
    #: What a person reads as the name of the quantity, in a table's head.
    title: str
    unit: Unit
    #: How a module's value follows from its parts: "sum" adds up the work of every call; "distinct" counts each
    #: parameter or buffer once, however many modules share it; "peak" is a highest point and does not add up.
    aggregation: Aggregation
    meaning: str
    #: Stored metrics whose sum, divided by `divisor`, is the value. Such a metric is shown and limited, but never
    #: stored.
    derived: tuple[str, ...] = ()
    divisor: int = 1
    #: What a measurement that does not store it may be taken to have; None where that is unknown.
    absent: int | None = None


_ROWS = (
    Metric("flops", "FLOPs", "FLOPs", "sum", "sums of products, 2 per multiply-accumulate"),
    Metric("macs", "MACs", "MACs", "sum", "multiply-accumulates: half of flops", derived=("flops",), divisor=2),
    Metric("other_flops", "other FLOPs", "FLOPs", "sum", "all other arithmetic on floating-point numbers"),
    Metric("total_flops", "total FLOPs", "FLOPs", "sum", "flops and other_flops", derived=("flops", "other_flops")),
    Metric("recomputed_flops", "recomputed", "FLOPs", "sum", "of flops, what activation checkpointing computed again"),
    Metric("params", "params", "count", "distinct", "distinct parameters"),
    Metric("trainable_params", "trainable", "count", "distinct", "distinct parameters that require a gradient"),
    Metric("param_bytes", "param bytes", "bytes", "distinct", "bytes of the parameters as stored"),
    Metric("buffer_bytes", "buffer bytes", "bytes", "distinct", "bytes of the buffers as stored"),
    Metric("communication", "communicated bytes", "bytes", "sum", "bytes exchanged with other processes", absent=0),
)

#: Every metric by its key, in the order in which tables show them.
METRICS: Mapping[str, Metric] = {metric.key: metric for metric in _ROWS}

#: The keys that results and baselines hold; the others derive from them.
STORED: tuple[str, ...] = tuple(metric.key for metric in _ROWS if not metric.derived)


def value_of(metrics: Mapping[str, int], key: str) -> int | None:
    """The value of metric ``key`` among stored ``metrics``, derived where it has to be; None if it was not measured."""
    if key not in METRICS or not METRICS[key].derived:
        return metrics.get(key)
    metric = METRICS[key]
    if not all(part in metrics for part in metric.derived):
        return None
    return sum(metrics[part] for part in metric.derived) // metric.divisor


def measured_value(metrics: Mapping[str, int], key: str) -> int | None:
    """The same of a measurement, which may leave out what there is none of: without processes, communication is 0."""
    value = value_of(metrics, key)
    return METRICS[key].absent if value is None and key in METRICS else value
