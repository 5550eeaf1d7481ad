"""Measure how the time of a count grows with the number of layers."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, median
from time import perf_counter
from typing import TYPE_CHECKING

from torch import nn

from peers.isolation import isolated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from performance.results import Depth

LAYERS = (10, 30, 100, 300, 1_000, 3_000, 10_000)
WIDTH = 8
#: A layer is a linear layer and a ReLU.
OPERATORS = 2


@dataclass(frozen=True)
class Line:
    """The line: seconds = start + slope * layers."""

    start: float
    slope: float
    #: The share of the variance that the line explains.
    r_squared: float


def in_turn(rounds: int, depth: Depth, save: Callable[[], None]) -> None:
    for number in range(rounds):
        for layers in LAYERS:
            if number < len(depth.first.get(str(layers), ())):
                continue
            ended = isolated(_sample, layers)
            if ended.value is None:
                raise RuntimeError(f"{layers} layers: {ended.failure}\n{ended.text}")
            depth.first.setdefault(str(layers), []).append(ended.value[0])
            depth.again.setdefault(str(layers), []).append(ended.value[1])
            print(f"round {number + 1}, {layers:,} layers: {ended.value[0] * 1e3:,.1f} ms", flush=True)
            save()


def _sample(layers: int) -> tuple[float, float]:
    import torch

    from pytest_flopsbudget import measure

    model = nn.Sequential(*(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(layers)))
    inputs = torch.randn(1, WIDTH)
    times = []
    for _ in range(2):
        start = perf_counter()
        counted = measure(model, inputs)
        times.append(perf_counter() - start)
        if counted.flops != 2 * WIDTH * WIDTH * layers:
            raise ArithmeticError(f"{counted.flops} FLOPs for {layers} layers")
    return times[0], times[1]


def line(times: Mapping[str, list[float]]) -> Line:
    """Fit a line to the median times. ``times`` is {number of layers: seconds}."""
    x = [float(layers) for layers in times]
    y = [median(seconds) for seconds in times.values()]
    x_mean, y_mean = fmean(x), fmean(y)
    slope = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True)) / sum((a - x_mean) ** 2 for a in x)
    start = y_mean - slope * x_mean
    missed = sum((b - start - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    return Line(start, slope, 1 - missed / sum((b - y_mean) ** 2 for b in y))
