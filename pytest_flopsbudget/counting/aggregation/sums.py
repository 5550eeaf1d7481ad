"""From single calls of operators to sums: by place, by operator, by phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pytest_flopsbudget.hardware.roofline import times
from pytest_flopsbudget.quantities.metrics import key_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_flopsbudget.counting.operators.work import Work
    from pytest_flopsbudget.counting.tracing.nodes import Node
    from pytest_flopsbudget.counting.tracing.tracer import When
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import PhaseName


_Key = TypeVar("_Key")

#: Metrics that are sums of work.
_SUMMED = (
    "flops",
    "other_flops",
    "recomputed_flops",
    "communication",
    "activations",
    "memory_traffic",
    "launches",
)
#: The same for each device: the parts of `hardware.roofline.Times`, in their order.
_OF_TIME = ("compute_time", "memory_time", "launch_time")


class Sums:
    """Values of `keys`, in their order.

    Args:
        counted: where, what and when → how often.
        devices: on which the time is estimated.
    """

    def __init__(self, counted: Mapping[tuple[Node, Work, When], int], devices: Sequence[Device] = ()) -> None:
        of_time = (key_for(part, device.name) for device in devices for part in _OF_TIME)
        self.keys: tuple[str, ...] = (*_SUMMED, *of_time)
        self.nothing = (0,) * len(self.keys)
        #: Path of a module → what ran in it, and in no module below.
        self.by_path: dict[str, list[int]] = {}
        self.by_operator: dict[str, list[int]] = {}
        #: Operator → how often it was called.
        self.calls: dict[str, int] = {}
        self.by_phase: dict[PhaseName, list[int]] = {}
        estimates: dict[Work, list[int]] = {}
        for (node, work, when), count in counted.items():
            values = _values(work, when, count)
            if devices:
                of_one = estimates.get(work)
                if of_one is None:
                    of_one = estimates[work] = _estimated(work, devices)
                values += [time * count for time in of_one]
            self.calls[work.name] = self.calls.get(work.name, 0) + count
            _add(self.by_path, node.path, values)
            _add(self.by_operator, work.name, values)
            _add(self.by_phase, "backward" if when == "recomputed" else when, values)


def _values(work: Work, when: When, count: int) -> list[int]:
    flops = work.flops * count
    return [
        flops,
        work.other_flops * count,
        flops if when == "recomputed" else 0,
        work.communication * count,
        # Gradients are none, and what is computed again has been counted.
        work.activations * count if when == "forward" else 0,
        work.memory_traffic * count,
        work.launches * count,
    ]


def _estimated(work: Work, devices: Iterable[Device]) -> list[int]:
    """The times of one call, device by device."""
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
