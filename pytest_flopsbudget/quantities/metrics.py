"""The table of metrics: a new metric is one row here and the place that measures it.

A key names a value: "flops". Some metrics have a value for each of several devices or machines, whose name the key
carries in brackets: "time[A100]". The row of all of them stands under what is before the brackets.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


Unit = Literal["FLOPs", "MACs", "count", "bytes", "ns", "FLOPs/byte", "FLOPs/step"]
Aggregation = Literal["sum", "distinct", "peak", "ratio", "whole"]
Per = Literal["device", "machine"]
Better = Literal["less", "more"]

#: Whole numbers of what is counted or measured; ratios are exact too.
Amount = int | Fraction


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured quantity; every value of it is exact, and a whole number unless it is a ratio."""

    #: The name in markers, in the pyproject, in baselines and reports.
    key: str
    #: What a person reads as the name of the quantity, in a table's head.
    title: str
    unit: Unit
    #: How a module's value follows from its parts: "sum" adds up the work of every call; "distinct" counts each
    #: parameter or buffer once, however many modules share it; "peak" is a highest point and does not add up; "ratio"
    #: is one of two sums, and does not add up either; "whole" is of the model as a whole, and no part has any.
    aggregation: Aggregation
    meaning: str
    #: Stored metrics whose sum, divided by `divisor`, is the value. Such a metric is shown and limited, but never
    #: stored.
    derived: tuple[str, ...] = ()
    divisor: int = 1
    #: Of a ratio, the stored metrics by whose sum it is divided.
    over: tuple[str, ...] = ()
    #: What a measurement that does not store it may be taken to have; None where that is unknown.
    absent: int | None = None
    #: What its keys name in brackets; None where it has one value only. It is measured where it is asked for.
    per: Per | None = None
    #: Of "less", a limit is the most that is allowed; of "more", the least.
    better: Better = "less"


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
    Metric("activations", "activations", "count", "sum", "elements that convolutions and matrix products put out"),
    Metric("peak_memory", "peak memory", "bytes", "peak", "most bytes alive at once"),
    Metric("memory_traffic", "memory traffic", "bytes", "sum", "bytes that operators read and write"),
    Metric("launches", "launches", "count", "sum", "kernel launches in eager mode"),
    Metric("depth", "steps in depth", "count", "whole", "longest chain of operators that depend on each other"),
    Metric(
        "arithmetic_intensity",
        "intensity",
        "FLOPs/byte",
        "ratio",
        "total_flops per byte of memory_traffic",
        derived=("flops", "other_flops"),
        over=("memory_traffic",),
        better="more",
    ),
    Metric(
        "average_parallelism",
        "parallelism",
        "FLOPs/step",
        "whole",
        "total_flops per step of the longest chain",
        derived=("flops", "other_flops"),
        over=("depth",),
        better="more",
    ),
    Metric("compute_time", "est. compute time", "ns", "sum", "of time, operators bound by compute", per="device"),
    Metric("memory_time", "est. memory time", "ns", "sum", "of time, operators bound by memory", per="device"),
    Metric("launch_time", "est. launch time", "ns", "sum", "of time, launching operators", per="device"),
    Metric(
        "time",
        "est. time",
        "ns",
        "sum",
        "least time on a device: an estimate, and a lower bound",
        derived=("compute_time", "memory_time", "launch_time"),
        per="device",
    ),
    Metric("latency", "latency", "ns", "whole", "median time of a run as measured on a machine", per="machine"),
)

#: Every row by its key, without a name in brackets, in the order in which tables show them.
METRICS: Mapping[str, Metric] = {metric.key: metric for metric in _ROWS}

#: The keys that results and baselines hold as they are; others derive from them.
STORED: tuple[str, ...] = tuple(metric.key for metric in _ROWS if not metric.derived and metric.per is None)

#: The keys that they hold with a name in brackets: of a device, or of a machine.
STORED_BY_NAME: tuple[str, ...] = tuple(metric.key for metric in _ROWS if not metric.derived and metric.per is not None)

_PLACES = {key: place for place, key in enumerate(METRICS)}


def base_of(key: str) -> str:
    """A key without its name in brackets: "time" of "time[A100]"."""
    return key.partition("[")[0]


def name_in(key: str) -> str | None:
    """The name in brackets: "A100" of "time[A100]"; None where there is none."""
    _, bracket, name = key.partition("[")
    return name[:-1] if bracket and name.endswith("]") else None


def key_for(base: str, name: str) -> str:
    """The key of a metric's value for one device or machine: "time[A100]". The name may be anything without "]"."""
    return f"{base}[{name}]"


def metric_of(key: str) -> Metric:
    """The row of ``key``, whatever name it carries in brackets.

    Raises:
        KeyError: no such metric.
    """
    return METRICS[base_of(key)]


def is_key(key: str, among: Iterable[str] = METRICS) -> bool:
    """Whether ``key`` names a value of a metric ``among`` the rows: with a name in brackets where they have one."""
    base = base_of(key)
    if base not in METRICS or base not in among:
        return False
    name = name_in(key)
    if name is None:
        # One machine measures, so that it need not be named.
        return key == base and METRICS[base].per != "device"
    return bool(name) and "]" not in name and METRICS[base].per is not None


def is_stored(key: str) -> bool:
    """Whether results may hold ``key``."""
    return is_key(key, (*STORED, *STORED_BY_NAME)) and (name_in(key) is not None or key in STORED)


def is_optional(key: str) -> bool:
    """Whether ``key`` is measured only where it is asked for, so that one run may have it and the next not."""
    return METRICS[base_of(key)].per is not None


def in_order(keys: Iterable[str]) -> list[str]:
    """``keys`` as tables show them: in the order of the rows, the names of one row sorted."""
    return sorted(keys, key=lambda key: (_PLACES[base_of(key)], key))


def title_of(key: str) -> str:
    """What a person reads as the name of the quantity: "FLOPs", "est. time A100"."""
    name = name_in(key)
    title = metric_of(key).title
    return f"{title} {name}" if name else title


def devices_in(keys: Iterable[str]) -> list[str]:
    """The devices for which ``keys`` hold times, sorted."""
    return sorted({name for key in keys if METRICS[base_of(key)].per == "device" and (name := name_in(key))})


@functools.lru_cache(maxsize=1024)
def parts_of(key: str) -> tuple[str, ...]:
    """The stored keys whose sum is the value of ``key``; of a stored one, itself."""
    return _named(METRICS[base_of(key)].derived, key) or (key,)


@functools.lru_cache(maxsize=1024)
def _divisors(key: str) -> tuple[str, ...]:
    return _named(METRICS[base_of(key)].over, key)


def _named(bases: tuple[str, ...], key: str) -> tuple[str, ...]:
    name = name_in(key)
    return bases if name is None else tuple(key_for(base, name) for base in bases)


def count_of(metrics: Mapping[str, int], key: str) -> int | None:
    """The value of metric ``key``, which is no ratio, among stored ``metrics``; None if it was not measured."""
    value = metrics.get(key)
    base = base_of(key)
    if value is not None or base not in METRICS or not METRICS[base].derived:
        return value
    parts = parts_of(key)
    if not all(part in metrics for part in parts):
        return None
    return sum(metrics[part] for part in parts) // METRICS[base].divisor


def value_of(metrics: Mapping[str, int], key: str) -> Amount | None:
    """The value of metric ``key`` among stored ``metrics``, derived where it has to be.

    None if it was not measured, and where a ratio is one over nothing.
    """
    value = count_of(metrics, key)
    base = base_of(key)
    if value is None or base not in METRICS or not METRICS[base].over:
        return value
    divisors = _divisors(key)
    if not all(part in metrics for part in divisors):
        return None
    divisor = sum(metrics[part] for part in divisors)
    return Fraction(value, divisor) if divisor else None


def measured_value(metrics: Mapping[str, int], key: str) -> Amount | None:
    """The same of a measurement, which may leave out what there is none of: without processes, communication is 0.

    ``key`` may leave out the name of the machine, since a measurement is made on one.
    """
    value = value_of(metrics, measured_key(metrics, key))
    return METRICS[key].absent if value is None and key in METRICS else value


def measured_key(metrics: Iterable[str], key: str) -> str:
    """``key`` with the name of the machine that measured, where it asks for that without naming one."""
    if key not in METRICS or METRICS[key].per != "machine":
        return key
    return next((own for own in metrics if base_of(own) == key), key)


def is_measured(metrics: Mapping[str, int], key: str) -> bool:
    """Whether all is there that the value of ``key`` follows from, though a ratio over nothing has no value."""
    parts = (*parts_of(key), *_divisors(key)) if base_of(key) in METRICS else ()
    return measured_value(metrics, key) is not None or all(part in metrics for part in parts)


def identifying(metrics: Mapping[str, int]) -> frozenset[tuple[str, int]]:
    """What of stored ``metrics`` is the same whenever the same model is measured."""
    return frozenset((key, value) for key, value in metrics.items() if "[" not in key)
