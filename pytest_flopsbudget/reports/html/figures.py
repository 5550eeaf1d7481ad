"""Figures of the page as SVG: the roofline of a device, the memory over a run, and a law with its counted points."""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from pytest_flopsbudget.quantities.formatting import format_value
from pytest_flopsbudget.quantities.metrics import METRICS, count_of, key_for, metric_of
from pytest_flopsbudget.results.law_facts import value_at
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from fractions import Fraction

    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.law_data import MeasuredLaws

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


#: The number of sizes at which a law is drawn.
_SAMPLES = 160
#: A range whose largest size is less than this many times its smallest size has linear axes.
_WIDE_RANGE = 20


class _Linear:
    """A linear axis from 0: values up to ``high`` are mapped to pixels from ``start`` to ``end``."""

    def __init__(self, high: float, start: float, end: float) -> None:
        step: float = 10.0 ** math.floor(math.log10(high))
        self.high = step * math.ceil(high / step)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        return round(self._start + value / self.high * (self._end - self._start), 1)

    def ticks(self) -> list[float]:
        """Return five values on the axis."""
        return [self.high * part / 4 for part in range(5)]


def growth(laws: MeasuredLaws, metric: str, symbol: str) -> Markup:
    """Return the law of a metric over the sizes of a symbol as SVG, with a point for each count.

    The other symbols have their largest sizes. The axes are logarithmic for a wide range. If the metric does not grow
    with the symbol, or has no value above 0 at two sizes, the result is empty.
    """
    law = laws.law(metric)
    if law is None or not any(symbol in piece.expression.symbols() for piece in law.pieces):
        return Markup()
    others = law.domain.named(law.domain.highest)
    curve = [(size, value_at(law, {**others, symbol: size})) for size in _samples(law.domain.sizes(symbol))]
    points = [
        (point[symbol], value)
        for point, value in zip(map(law.domain.named, laws.counted), laws.metrics[metric].counts, strict=False)
        if value and point[symbol] and all(point[other] == size for other, size in others.items() if other != symbol)
    ]
    known = [(size, float(value)) for size, value in (*curve, *points) if value and value > 0]
    sizes, values = [float(size) for size, _ in known], [value for _, value in known]
    if len(set(sizes)) < 2:  # noqa: PLR2004 -- a curve needs two points
        return Markup()
    left, right, bottom = _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    x: _Scale | _Linear
    y: _Scale | _Linear
    if max(sizes) < _WIDE_RANGE * min(sizes):
        x, y = _Linear(max(sizes), left, right), _Linear(max(values), bottom, _TOP)
    else:
        x, y = _Scale(min(sizes), max(sizes), left, right), _Scale(min(values), max(values), bottom, _TOP)
    unit = {"count": "", "bytes": "B", "ns": "ns"}.get(metric_of(metric).unit, metric_of(metric).unit)
    parts = [*_grid(x, y)]
    parts.append(f'<text class="soft" x="{right}" y="{_HEIGHT - 6}" text-anchor="end">{Markup.escape(symbol)}</text>')
    parts.append(f'<text class="soft" x="{_LEFT}" y="{_TOP - 4}">{Markup.escape(unit or metric)}</text>')
    parts += [f'<path class="roof" d="M{"L".join(piece)}"/>' for piece in _unbroken(curve, x, y)]
    for size, value in points:
        words = f"{symbol} = {size:,}: {format_value(value, metric_of(metric))}"
        circle = f'<circle class="point" cx="{x(size)}" cy="{y(value)}" r="4">'
        parts.append(f"{circle}<title>{Markup.escape(words)}</title></circle>")
    return _svg(parts, f"{metric} over {symbol}: {law.text()}")


def _samples(sizes: tuple[int, ...] | range) -> list[int]:
    """Return sizes that are spread evenly on a logarithmic scale, without 0."""
    first, last = max(sizes[0], 1), max(sizes[-1], 1)
    wanted = [first * (last / first) ** (number / (_SAMPLES - 1)) for number in range(_SAMPLES)]
    places = [min(bisect.bisect_left(sizes, size), len(sizes) - 1) for size in wanted]
    return [sizes[place] for place in dict.fromkeys([*places, len(sizes) - 1]) if sizes[place]]


def _unbroken(
    curve: Sequence[tuple[int, Fraction | None]], x: Callable[[float], float], y: Callable[[float], float]
) -> list[list[str]]:
    """Return the lines of a curve. It is interrupted where the law has no value above 0."""
    lines: list[list[str]] = [[]]
    for size, value in curve:
        if value is not None and value > 0:
            lines[-1].append(f"{x(size)} {y(float(value))}")
        elif lines[-1]:
            lines.append([])
    return [line for line in lines if line]


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
    yield from _grid(x, y)
    yield f'<text class="soft" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">FLOPs per byte</text>'
    yield f'<text class="soft" x="4" y="{_TOP - 4}">FLOP/s</text>'


def _grid(x: _Scale | _Linear, y: _Scale | _Linear) -> Iterator[str]:
    for tick in x.ticks():
        # The text of the last tick would leave the figure.
        anchor = "end" if x(tick) >= _WIDTH - _RIGHT else "middle"
        yield (
            f'<path class="grid" d="M{x(tick)} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
            f'<text class="soft" x="{x(tick)}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="{anchor}">{tick:g}</text>'
        )
    for tick in y.ticks():
        yield (
            f'<path class="grid" d="M{_LEFT} {y(tick)}H{_WIDTH - _RIGHT}"/>'
            f'<text class="soft" x="{_LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">{_short(tick).strip()}</text>'
        )


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
