"""The table of metrics. To add a metric, add a row here and measure it.

A key names a value: "flops". If a metric has one value for each device or machine, the key ends with the name of the
device or machine in brackets: "time[A100]". The table has one row for "time".
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


Unit = Literal["FLOPs", "MACs", "count", "bytes", "ns", "FLOPs/byte", "FLOPs/step", "bits/param", "tokens/s"]
Aggregation = Literal["sum", "distinct", "peak", "ratio", "whole"]
Per = Literal["device", "machine"]
Better = Literal["less", "more"]

#: The value of a metric: a whole number, or an exact ratio.
Amount = int | Fraction


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured quantity. All its values are exact. They are whole numbers, unless the metric is a ratio."""

    #: The name of the metric in markers, in the pyproject, in baselines and in reports.
    key: str
    #: The name of the quantity in table heads.
    title: str
    unit: Unit
    #: How a module's value follows from its parts. "sum": the work of all calls is added. "distinct": each parameter
    #: or buffer counts once, however many modules share it. "peak": a maximum, which does not add up. "ratio": a
    #: quotient of two sums, which does not add up. "whole": only the model as a whole has a value.
    aggregation: Aggregation
    meaning: str
    #: Stored metrics whose sum, times `factor` and divided by `divisor`, is the value. Such a metric is shown and
    #: limited, but never stored.
    derived: tuple[str, ...] = ()
    factor: int = 1
    divisor: int = 1
    #: For a ratio, the stored metrics whose sum is the denominator.
    over: tuple[str, ...] = ()
    #: The value if a measurement does not store the metric: a number, or the key of the metric that has the same value
    #: then. None if the value is unknown then.
    absent: int | str | None = None
    #: The thing that the name in brackets names; None if the metric has one value only. Metrics with such a name are
    #: measured on request only.
    per: Per | None = None
    #: "less": a limit is a maximum. "more": a limit is a minimum.
    better: Better = "less"
    #: Whether the value depends on the kernels that PyTorch runs, and not only on the model. Another minor version of
    #: PyTorch may have other kernels.
    of_kernels: bool = False
    #: Whether baselines store the metric and compare it. A metric that they leave out rarely changes alone.
    in_baselines: bool = True
    #: Whether only measurements of serving have the metric.
    of_serving: bool = False


_ROWS = (
    Metric("flops", "FLOPs", "FLOPs", "sum", "sums of products, 2 per multiply-accumulate"),
    Metric("macs", "MACs", "MACs", "sum", "multiply-accumulates: half of flops", derived=("flops",), divisor=2),
    Metric("masked_flops", "masked FLOPs", "FLOPs", "sum", "of flops, what attention masks leave", absent="flops"),
    Metric("other_flops", "other FLOPs", "FLOPs", "sum", "all other arithmetic on floating-point numbers"),
    Metric("total_flops", "total FLOPs", "FLOPs", "sum", "flops and other_flops", derived=("flops", "other_flops")),
    Metric("recomputed_flops", "recomputed", "FLOPs", "sum", "of flops, what activation checkpointing computed again"),
    Metric(
        "bit_operations",
        "bit operations",
        "count",
        "sum",
        "multiply-accumulates, each times the bits of its one operand and the bits of the other",
        in_baselines=False,
    ),
    Metric("params", "params", "count", "distinct", "distinct parameters"),
    Metric("trainable_params", "trainable", "count", "distinct", "distinct parameters that require a gradient"),
    Metric(
        "active_params",
        "active",
        "count",
        "distinct",
        "parameters that one token uses: of routed experts, only those that are chosen for it",
        absent="params",
        in_baselines=False,
    ),
    Metric(
        "non_embedding_params",
        "non-embedding",
        "count",
        "distinct",
        "parameters without embedding tables",
        absent="params",
        in_baselines=False,
    ),
    Metric("param_bytes", "param bytes", "bytes", "distinct", "bytes of the parameters as stored"),
    Metric(
        "bits_per_param",
        "bits a param",
        "bits/param",
        "ratio",
        "8 times param_bytes, per parameter",
        derived=("param_bytes",),
        factor=8,
        over=("params",),
        in_baselines=False,
    ),
    Metric("buffer_bytes", "buffer bytes", "bytes", "distinct", "bytes of the buffers as stored"),
    Metric(
        "communication",
        "communicated bytes",
        "bytes",
        "sum",
        "bytes exchanged with other processes",
        absent=0,
        of_kernels=True,
    ),
    Metric("activations", "activations", "count", "sum", "elements that convolutions and matrix products put out"),
    Metric("peak_memory", "peak memory", "bytes", "peak", "most bytes alive at once", of_kernels=True),
    Metric("memory_traffic", "memory traffic", "bytes", "sum", "bytes that operators read and write", of_kernels=True),
    Metric("launches", "launches", "count", "sum", "kernel launches in eager mode", of_kernels=True),
    Metric(
        "depth",
        "steps in depth",
        "count",
        "whole",
        "longest chain of operators that depend on each other",
        of_kernels=True,
    ),
    Metric(
        "arithmetic_intensity",
        "intensity",
        "FLOPs/byte",
        "ratio",
        "total_flops per byte of memory_traffic",
        derived=("flops", "other_flops"),
        over=("memory_traffic",),
        better="more",
        of_kernels=True,
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
        of_kernels=True,
    ),
    Metric(
        "compute_time",
        "est. compute time",
        "ns",
        "sum",
        "of time, operators bound by compute",
        per="device",
        of_kernels=True,
    ),
    Metric(
        "memory_time",
        "est. memory time",
        "ns",
        "sum",
        "of time, operators bound by memory",
        per="device",
        of_kernels=True,
    ),
    Metric(
        "launch_time", "est. launch time", "ns", "sum", "of time, launching operators", per="device", of_kernels=True
    ),
    Metric(
        "time",
        "est. time",
        "ns",
        "sum",
        "least time on a device: an estimate, and a lower bound",
        derived=("compute_time", "memory_time", "launch_time"),
        per="device",
        of_kernels=True,
    ),
    Metric(
        "latency",
        "latency",
        "ns",
        "whole",
        "median time of a run as measured on a machine",
        per="machine",
        of_kernels=True,
    ),
    Metric("kv_cache", "KV cache", "bytes", "whole", "bytes of the cache after a step of serving", of_serving=True),
    Metric(
        "kv_cache_per_token",
        "KV cache per token",
        "bytes",
        "whole",
        "bytes that each new token adds to the cache of one request",
        of_serving=True,
    ),
    Metric(
        "bytes_read",
        "bytes read",
        "bytes",
        "whole",
        "bytes of weights and cache that a step of serving reads at least",
        of_serving=True,
    ),
    Metric(
        "time_to_first_token",
        "time to first token",
        "ns",
        "whole",
        "least time of a prefill on a device: a lower bound",
        per="device",
        of_serving=True,
    ),
    Metric(
        "requests",
        "requests",
        "count",
        "whole",
        "most requests whose caches fit beside the weights on a device: an upper bound",
        per="device",
        better="more",
        of_serving=True,
    ),
    Metric(
        "tokens_per_second",
        "tokens per second",
        "tokens/s",
        "whole",
        "most tokens that a device decodes a second: an upper bound",
        per="device",
        better="more",
        of_serving=True,
    ),
)

#: Key without brackets → row of this table, in the order in which reports show the metrics.
METRICS: Mapping[str, Metric] = {metric.key: metric for metric in _ROWS}

#: The keys without brackets that results and baselines store. The other metrics are derived from them.
STORED: tuple[str, ...] = tuple(metric.key for metric in _ROWS if not metric.derived and metric.per is None)

#: The keys that results and baselines store with the name of a device or machine in brackets.
STORED_BY_NAME: tuple[str, ...] = tuple(metric.key for metric in _ROWS if not metric.derived and metric.per is not None)

#: The keys without brackets that a measurement is compared by with its baseline. The parts of a time are not compared.
COMPARED: tuple[str, ...] = (*(key for key in STORED if METRICS[key].in_baselines), "time", "latency")

#: The keys in `COMPARED` whose values follow from the model alone. Unless the user chooses others, a baseline holds
#: these metrics: a test fails if one of them grows.
HELD_BY_DEFAULT: tuple[str, ...] = tuple(key for key in COMPARED if not METRICS[key].of_kernels)

_PLACES = {key: place for place, key in enumerate(METRICS)}


def base_of(key: str) -> str:
    """Return a key without the name in brackets: "time" for "time[A100]"."""
    return key.partition("[")[0]


def name_in(key: str) -> str | None:
    """Return the name in brackets: "A100" for "time[A100]"; None if the key has no brackets."""
    _, bracket, name = key.partition("[")
    return name[:-1] if bracket and name.endswith("]") else None


def key_for(base: str, name: str) -> str:
    """Return the key for one device or machine: "time[A100]". The name must not contain "]"."""
    return f"{base}[{name}]"


def metric_of(key: str) -> Metric:
    """Return the metric of ``key``. The key may have a name in brackets.

    Raises:
        KeyError: there is no such metric.
    """
    return METRICS[base_of(key)]


def is_key(key: str, among: Iterable[str] = METRICS) -> bool:
    """Return whether ``key`` is a valid key of a metric in ``among``. A name in brackets is checked too."""
    base = base_of(key)
    if base not in METRICS or base not in among:
        return False
    name = name_in(key)
    if name is None:
        # A measurement is made on one machine, so the key may leave out the machine.
        return key == base and METRICS[base].per != "device"
    return bool(name) and "]" not in name and METRICS[base].per is not None


def is_stored(key: str) -> bool:
    """Return whether results may store a value for ``key``. All other values are computed from stored values."""
    return is_key(key, (*STORED, *STORED_BY_NAME)) and (name_in(key) is not None or key in STORED)


def is_optional(key: str) -> bool:
    """Return whether ``key`` is measured on request only. A run need not measure it, even if a baseline contains it."""
    metric = METRICS[base_of(key)]
    return metric.per is not None or metric.of_serving


def sort_metrics(keys: Iterable[str]) -> list[str]:
    """Sort keys for tables: in the order of `METRICS`, then by the name in brackets."""
    return sorted(keys, key=lambda key: (_PLACES[base_of(key)], key))


def title_of(key: str) -> str:
    """Return the name of the quantity for tables: "FLOPs", "est. time A100"."""
    name = name_in(key)
    title = metric_of(key).title
    return f"{title} {name}" if name else title


def devices_in(keys: Iterable[str]) -> list[str]:
    """Return the devices named in the keys of times, sorted."""
    return sorted({name for key in keys if METRICS[base_of(key)].per == "device" and (name := name_in(key))})


@functools.lru_cache(maxsize=1024)
def parts_of(key: str) -> tuple[str, ...]:
    """Return the stored keys that are summed to compute ``key``. For a stored key, return only this key."""
    return _named(METRICS[base_of(key)].derived, key) or (key,)


@functools.lru_cache(maxsize=1024)
def _divisors(key: str) -> tuple[str, ...]:
    return _named(METRICS[base_of(key)].over, key)


def _named(bases: tuple[str, ...], key: str) -> tuple[str, ...]:
    name = name_in(key)
    return bases if name is None else tuple(key_for(base, name) for base in bases)


def count_of(metrics: Mapping[str, int], key: str) -> int | None:
    """Return the value of ``key`` from stored metrics; None if it was not measured. ``key`` must not be a ratio."""
    value = metrics.get(key)
    base = base_of(key)
    if value is not None or base not in METRICS or not METRICS[base].derived:
        return value
    parts = parts_of(key)
    if not all(part in metrics for part in parts):
        return None
    return sum(metrics[part] for part in parts) * METRICS[base].factor // METRICS[base].divisor


def implied_count(metrics: Mapping[str, int], key: str) -> int | None:
    """Return `count_of`, or the value of the metric that ``key`` equals if it is not stored (`Metric.absent`)."""
    value = count_of(metrics, key)
    if value is not None or base_of(key) not in METRICS:
        return value
    absent = METRICS[base_of(key)].absent
    return count_of(metrics, absent) if isinstance(absent, str) else None


def value_of(metrics: Mapping[str, int], key: str) -> Amount | None:
    """Return the value of ``key``, stored or derived, from stored metrics.

    Return None if the metric was not measured, or if it is a ratio with denominator 0.
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
    """Return the value of ``key`` in a measurement. If it is not stored, the metric's ``absent`` gives the value.

    ``key`` may leave out the machine, because a measurement is made on one machine.
    """
    value = value_of(metrics, measured_key(metrics, key))
    if value is not None or key not in METRICS:
        return value
    absent = METRICS[key].absent
    return value_of(metrics, absent) if isinstance(absent, str) else absent


#: Bits of a number in half precision, and of the product of two: metrics of precision are shown only below these.
_HALF, _TWO_HALVES = 16, 16 * 16


def is_remarkable(metrics: Mapping[str, int], key: str) -> bool:
    """Return whether a list of all metrics of a model has a place for ``key``, which has a value.

    A metric that equals another one of this model has none, and neither has the precision of a model that computes in
    half precision or better.
    """
    if key == "bit_operations":
        return 2 * metrics[key] < metrics.get("flops", 0) * _TWO_HALVES
    if key == "bits_per_param":
        return metrics["param_bytes"] * 8 < metrics["params"] * _HALF
    return not isinstance(METRICS[base_of(key)].absent, str) or key in metrics


def value_to_add(metrics: Mapping[str, int], key: str) -> int:
    """Return the value of a stored metric for a sum over modules; 0 if it was not measured."""
    absent = METRICS[base_of(key)].absent
    return metrics.get(key, metrics.get(absent, 0) if isinstance(absent, str) else 0)


def measured_key(metrics: Iterable[str], key: str) -> str:
    """Return ``key`` with the name of the measuring machine, if the metric needs such a name and ``key`` has none."""
    if key not in METRICS or METRICS[key].per != "machine":
        return key
    return next((own for own in metrics if base_of(own) == key), key)


def is_measured(metrics: Mapping[str, int], key: str) -> bool:
    """Return whether all parts of ``key`` were measured. A ratio with denominator 0 is measured but has no value."""
    parts = (*parts_of(key), *_divisors(key)) if base_of(key) in METRICS else ()
    return measured_value(metrics, key) is not None or all(part in metrics for part in parts)


def compared_parts(key: str) -> tuple[str, ...]:
    """Return the keys in `COMPARED` from which ``key`` is computed: ("flops",) for "macs".

    If ``key`` is in `COMPARED`, return only ``key``. The result is empty for ratios and for parts of a time. ``key``
    has no name in brackets.
    """
    if key in COMPARED:
        return (key,)
    return () if METRICS[key].over else tuple(part for part in METRICS[key].derived if part in COMPARED)


def identifying_metrics(metrics: Mapping[str, int]) -> frozenset[tuple[str, int]]:
    """Return (key, value) for each metric of a baseline that does not depend on a device or machine."""
    return frozenset((key, value) for key, value in metrics.items() if "[" not in key and METRICS[key].in_baselines)


def baseline_metrics(metrics: Mapping[str, int]) -> dict[str, int]:
    """Return those of ``metrics`` that a baseline stores."""
    return {key: value for key, value in metrics.items() if METRICS[base_of(key)].in_baselines}
