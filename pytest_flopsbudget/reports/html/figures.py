"""Figures of the page as SVG: the roofline of a device, and the memory over the course of a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from pytest_flopsbudget.quantities.formatting import format_value
from pytest_flopsbudget.quantities.metrics import METRICS, count_of, key_for
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity

_WIDTH, _HEIGHT = 640, 320
_LEFT, _BOTTOM, _TOP, _RIGHT = 76, 40, 16, 16
#: The number of operators that the roofline names. The other points have no label.
_NAMED = 6
#: The dtypes whose roofs are shown.
_DTYPES = ("float32", "tfloat32", "bfloat16")
#: The height of a line of text.
_LINE = 13


class _Scale:
    """A logarithmic axis: values from ``low`` to ``high`` are mapped to pixels from ``start`` to ``end``."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high))
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = math.log10(value / self.low) / math.log10(self.high / self.low)
        return round(self._start + share * (self._end - self._start), 1)

    def ticks(self) -> list[float]:
        """Return the powers of ten on the axis, at most about eight."""
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        step = max(1, math.ceil((last - first) / 8))
        return [10.0**power for power in range(first, last + 1, step)]


def roofline(complexity: Complexity, device: Device) -> Markup:
    """Return the roofline of a device as SVG, with a point for each operator that computes and moves bytes.

    A point's height is the operator's FLOPs divided by its estimated time. Without an estimate for the device, the
    point lies on the roof for float32. If no operator has both FLOPs and bytes, the result is empty.
    """
    points = sorted(_points(complexity, device), key=lambda point: -point.weight)
    if not points:
        return Markup()
    rates = {dtype: rate for dtype, rate in device.rates.items() if dtype in _DTYPES} or {
        "peak": max(device.rates.values())
    }
    ridges = [rate / device.bandwidth for rate in rates.values()]
    intensities = [point.intensity for point in points]
    x = _Scale(min(0.05, *intensities), max(1000, *ridges, *intensities), _LEFT, _WIDTH - _RIGHT)
    lowest = min(device.bandwidth * x.low, *(point.rate for point in points))
    y = _Scale(lowest, max(*rates.values(), *(point.rate for point in points)), _HEIGHT - _BOTTOM, _TOP)
    parts, labels = [*_axes(x, y)], _Labels()
    for dtype, rate in rates.items():
        start, ridge, end = y(device.bandwidth * x.low), x(rate / device.bandwidth), _WIDTH - _RIGHT
        parts.append(f'<path class="roof" d="M{x(x.low)} {start}L{ridge} {y(rate)}H{end}"/>')
        parts.append(labels.place(f"{dtype}, {_short(rate)}FLOP/s", end, y(rate) - 4, anchor="end"))
    total = sum(point.weight for point in points)
    for number, point in enumerate(points):
        radius = round(3 + 9 * math.sqrt(point.weight / total), 1)
        words = f"{point.name}: {_short(point.intensity)}FLOPs/byte, {_short(point.rate)}FLOP/s"
        circle = f'<circle class="point" cx="{x(point.intensity)}" cy="{y(point.rate)}" r="{radius}">'
        parts.append(f"{circle}<title>{Markup.escape(words)}</title></circle>")
        if number < _NAMED:
            parts.append(labels.place(point.name, x(point.intensity) + radius + 3, y(point.rate) + 4))
    return _svg(parts, f"Roofline of {device.name} with {len(points)} operators")


def memory(complexity: Complexity) -> Markup:
    """Return the bytes alive over the course of the run as SVG; empty if they were not recorded."""
    alive = complexity.memory_over_time
    if len(alive) < 2:  # noqa: PLR2004 -- a line needs two points
        return Markup()
    top = max(alive)
    room = _HEIGHT - _BOTTOM - _TOP

    def x(number: int) -> float:
        return round(_LEFT + (_WIDTH - _RIGHT - _LEFT) * number / (len(alive) - 1), 1)

    def y(size: float) -> float:
        return round(_HEIGHT - _BOTTOM - room * size / top, 1) if top else _HEIGHT - _BOTTOM

    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        height = y(share * top)
        size = format_value(round(share * top), METRICS["peak_memory"])
        parts.append(f'<path class="grid" d="M{_LEFT} {height}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="soft" x="{_LEFT - 6}" y="{height + 4}" text-anchor="end">{size}</text>')
    line = "".join(f"L{x(number)} {y(size)}" for number, size in enumerate(alive))
    parts.append(f'<path class="area" d="M{_LEFT} {y(0)}{line}L{x(len(alive) - 1)} {y(0)}Z"/>')
    peak = alive.index(top)
    parts.append(f'<circle class="point" cx="{x(peak)}" cy="{y(top)}" r="4"/>')
    words = "operators, in the order of the run"
    parts.append(f'<text class="soft" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 12}" text-anchor="end">{words}</text>')
    return _svg(parts, f"Bytes alive over the run; at most {format_value(top, METRICS['peak_memory'])}")


class _Labels:
    """Places texts so that no text covers another one."""

    def __init__(self) -> None:
        self._taken: list[tuple[float, float, float]] = []

    def place(self, words: str, x: float, y: float, anchor: str = "start") -> str:
        """Return a text element at (x, y), moved down as far as needed."""
        width = 6.5 * len(words)
        left = x - width if anchor == "end" else x
        while any(left < end and start < left + width and abs(y - line) < _LINE for start, end, line in self._taken):
            y += _LINE
        self._taken.append((left, left + width, y))
        return f'<text x="{x}" y="{round(y, 1)}" text-anchor="{anchor}">{Markup.escape(words)}</text>'


class _Point(NamedTuple):
    """An operator in the roofline."""

    name: str
    #: FLOPs per byte.
    intensity: float
    #: FLOPs per second.
    rate: float
    #: The estimated time, or the FLOPs if no time was estimated.
    weight: float


def _points(complexity: Complexity, device: Device) -> Iterator[_Point]:
    roof = device.rates.get("float32") or max(device.rates.values())
    for name, operator in complexity.operators.items():
        flops, moved = count_of(operator.metrics, "total_flops"), count_of(operator.metrics, "memory_traffic")
        if not flops or not moved:
            continue
        time = count_of(operator.metrics, key_for("time", device.name))
        rate = flops * 10**9 / time if time else min(roof, flops / moved * device.bandwidth)
        yield _Point(visible(name), flops / moved, rate, float(time or flops))


def _axes(x: _Scale, y: _Scale) -> Iterator[str]:
    for tick in x.ticks():
        yield (
            f'<path class="grid" d="M{x(tick)} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
            f'<text class="soft" x="{x(tick)}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>'
        )
    for tick in y.ticks():
        yield (
            f'<path class="grid" d="M{_LEFT} {y(tick)}H{_WIDTH - _RIGHT}"/>'
            f'<text class="soft" x="{_LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">{_short(tick).strip()}</text>'
        )
    yield f'<text class="soft" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">FLOPs per byte</text>'
    yield f'<text class="soft" x="4" y="{_TOP - 4}">FLOP/s</text>'


def _short(value: float) -> str:
    """Return a number with a prefix and a space: "312 T"."""
    for prefix, factor in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g} "


def _svg(parts: list[str], title: str) -> Markup:
    label = Markup.escape(title)
    return Markup(  # noqa: S704 -- every text in the parts is escaped
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )
