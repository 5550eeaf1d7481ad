"""From single calls of operators to sums: by place, by operator, by phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_flopsbudget.counting.modules import Node
    from pytest_flopsbudget.counting.tracer import When
    from pytest_flopsbudget.counting.work import Work
    from pytest_flopsbudget.results.complexity import PhaseName

_Key = TypeVar("_Key")

#: Metrics that are sums of work.
KEYS = (
    "flops",
    "other_flops",
    "recomputed_flops",
    "communication",
    "activations",
    "memory_traffic",
    "operators",
)


class Sums:
    """Values of `KEYS`, in their order."""

    def __init__(self, counted: Mapping[tuple[Node, Work, When], int]) -> None:
        #: Path of a module → what ran in it, and in no module below.
        self.by_path: dict[str, list[int]] = {}
        self.by_operator: dict[str, list[int]] = {}
        #: Operator → how often it was called.
        self.calls: dict[str, int] = {}
        self.by_phase: dict[PhaseName, list[int]] = {}
        for (node, work, when), times in counted.items():
            values = _values(work, when, times)
            self.calls[work.name] = self.calls.get(work.name, 0) + times
            _add(self.by_path, node.path, values)
            _add(self.by_operator, work.name, values)
            _add(self.by_phase, "backward" if when == "recomputed" else when, values)


def _values(work: Work, when: When, times: int) -> list[int]:
    flops = work.flops * times
    return [
        flops,
        work.other_flops * times,
        flops if when == "recomputed" else 0,
        work.communication * times,
        # Gradients are none, and what is computed again has been counted.
        work.activations * times if when == "forward" else 0,
        work.memory_traffic * times,
        work.launches * times,
    ]


def _add(sums: dict[_Key, list[int]], key: _Key, values: Iterable[int]) -> None:
    known = sums.get(key)
    if known is None:
        sums[key] = list(values)
    else:
        for index, value in enumerate(values):
            known[index] += value
