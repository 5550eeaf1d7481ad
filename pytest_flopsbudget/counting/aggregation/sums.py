"""Sum up the work of single calls of operators: by module, by operator and by phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pytest_flopsbudget.hardware.roofline import times
from pytest_flopsbudget.quantities.metrics import key_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_flopsbudget.counting.operators.work import Work
    from pytest_flopsbudget.counting.tracing.nodes import Node
    from pytest_flopsbudget.counting.tracing.tracer import WorkPhase
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.data import PhaseName


_Key = TypeVar("_Key")

#: Metrics that are sums over operators, in the order in which `_metrics_of` returns them.
_SUMMED_METRICS = (
    "flops",
    "masked_flops",
    "other_flops",
    "recomputed_flops",
    "communication",
    "activations",
    "bit_operations",
    "memory_traffic",
    "launches",
)
#: Metrics that are sums for each device: the fields of `hardware.roofline.Times`, in order.
_TIME_METRICS = ("compute_time", "memory_time", "launch_time")


class Sums:
    """Sums of all metrics. Each list holds one value for each name in `keys`, in the order of `keys`.

    Args:
        counted: (module, work, phase) → number of calls.
        devices: the devices for which the time is estimated.
    """

    def __init__(self, counted: Mapping[tuple[Node, Work, WorkPhase], int], devices: Sequence[Device] = ()) -> None:
        time_keys = (key_for(metric, device.name) for device in devices for metric in _TIME_METRICS)
        self.keys: tuple[str, ...] = (*_SUMMED_METRICS, *time_keys)
        self.nothing = (0,) * len(self.keys)
        #: Path of a module → the work of the module without its submodules.
        self.by_path: dict[str, list[int]] = {}
        self.by_operator: dict[str, list[int]] = {}
        #: Operator → number of calls.
        self.calls: dict[str, int] = {}
        self.by_phase: dict[PhaseName, list[int]] = {}
        estimates: dict[Work, list[int]] = {}
        for (node, work, when), count in counted.items():
            values = _metrics_of(work, when, count)
            if devices:
                times_of_one = estimates.get(work)
                if times_of_one is None:
                    times_of_one = estimates[work] = _estimate_times(work, devices)
                values += [time * count for time in times_of_one]
            self.calls[work.name] = self.calls.get(work.name, 0) + count
            _add(self.by_path, node.path, values)
            _add(self.by_operator, work.name, values)
            _add(self.by_phase, "backward" if when == "recomputed" else when, values)


_FORWARD = ("forward", "setup")


def _metrics_of(work: Work, when: WorkPhase, count: int) -> list[int]:
    flops = work.flops * count
    return [
        flops,
        work.masked_flops * count,
        work.other_flops * count,
        flops if when == "recomputed" else 0,
        work.communication * count,
        # Gradients are no activations, and recomputed activations were counted in the forward pass.
        work.activations * count if when in _FORWARD else 0,
        work.bit_operations * count,
        work.memory_traffic * count,
        work.launches * count,
    ]


def _estimate_times(work: Work, devices: Iterable[Device]) -> list[int]:
    """Return the three estimated times (`_TIME_METRICS`) of one call for each device, in one flat list."""
    return [
        part
        for device in devices
        for part in times(device, work.flops, work.other_flops, work.memory_traffic, work.dtype, work.launches)
    ]


def _add(sums: dict[_Key, list[int]], key: _Key, values: Sequence[int]) -> None:
    known = sums.get(key)
    if known is None:
        sums[key] = list(values)
    else:
        for index, value in enumerate(values):
            known[index] += value
