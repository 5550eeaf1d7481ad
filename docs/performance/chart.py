"""Draw docs/performance/chart.svg, which has a logarithmic bar for each counter and model."""

from __future__ import annotations

from math import ceil, floor, log10
from statistics import median
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from performance.models import MODELS
from performance.runners import FORWARD, OURS
from performance.targets import fastest_right

if TYPE_CHECKING:
    from collections.abc import Iterable

    from performance.results import Pair, Results

#: Label → color. Color-blind readers can tell the colors apart (Okabe and Ito, 2008).
_COLOURS = {
    "this plugin": "#0072b2",
    "fastest other counter that is right": "#e69f00",
    "forward pass on the CPU": "#999999",
}
_LEFT, _WIDTH, _RIGHT = 275, 640, 70
_BAR, _GAP, _TOP, _BOTTOM = 11, 12, 62, 34
_MILLISECOND = 1e-3

#: A model, and its seconds by label.
Group = tuple[str, dict[str, float]]


def svg(results: Results) -> str:
    """Return the chart of the times of first counts, as SVG."""
    groups = [(model, bars) for model in MODELS if (bars := _bars(results.models.get(model, {})))]
    seconds = [value for _, bars in groups for value in bars.values()] or [_MILLISECOND, 1]
    scale = _Scale(floor(log10(min(seconds))), max(ceil(log10(max(seconds))), floor(log10(min(seconds))) + 1))
    height = _TOP + sum(len(bars) * _BAR + _GAP for _, bars in groups) + _BOTTOM
    width = _LEFT + _WIDTH + _RIGHT
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        "<title>First count in a fresh process, compared with other counters and the forward pass</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *_legend(),
        *_grid(scale, height),
        *_drawn(groups, scale),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


class _Scale:
    """A logarithmic axis from ``10**first`` to ``10**last`` seconds."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last

    def x(self, seconds: float) -> float:
        return _LEFT + _WIDTH * (log10(seconds) - self.first) / (self.last - self.first)


def _bars(pairs: dict[str, Pair]) -> dict[str, float]:
    ours, forward, best = pairs.get(OURS), pairs.get(FORWARD), fastest_right(pairs)
    values = (
        median(ours.first) if ours and ours.first else None,
        best[1] if best else None,
        median(forward.first) if forward and forward.first else None,
    )
    return {name: value for name, value in zip(_COLOURS, values, strict=True) if value is not None}


def _legend() -> Iterable[str]:
    x = _LEFT
    for name, colour in _COLOURS.items():
        yield f'<rect x="{x}" y="14" width="12" height="12" fill="{colour}"/>'
        yield _text(x + 18, 24, name)
        x += 48 + 7 * len(name)


def _grid(scale: _Scale, height: int) -> Iterable[str]:
    for power in range(scale.first, scale.last + 1):
        x = scale.x(10.0**power)
        yield f'<line x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{height - _BOTTOM + 4}" stroke="#dddddd"/>'
        for y in (_TOP - 14, height - _BOTTOM + 20):
            yield _text(x, y, _in_words(10.0**power), anchor="middle")


def _drawn(groups: Iterable[Group], scale: _Scale) -> Iterable[str]:
    y = _TOP
    for model, bars in groups:
        yield _text(_LEFT - 10, y + len(bars) * _BAR / 2 + 4, model, anchor="end")
        for name, seconds in bars.items():
            length = scale.x(seconds) - _LEFT
            yield f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR - 1}" fill="{_COLOURS[name]}"/>'
            yield _text(scale.x(seconds) + 4, y + _BAR - 2, _in_words(seconds), size=9)
            y += _BAR
        y += _GAP


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="#222222">{escape(text)}</text>'
    )


def _in_words(seconds: float) -> str:
    return f"{seconds:,.3g} s" if seconds >= 1 else f"{seconds / _MILLISECOND:.3g} ms"
