"""Draw docs/inversion/roofline.svg, which shows the operators of two blocks under the rooflines of two devices."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from math import atan2, degrees, log10
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import torch

from inversion.blocks import BOARD, EARLY, SERVER, counted, dense, separable
from pytest_flopsbudget.hardware.roofline import bound_of
from pytest_flopsbudget.quantities.formatting import format_value
from pytest_flopsbudget.quantities.metrics import METRICS
from pytest_flopsbudget.reports.details import parts_of_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.hardware.roofline import Bound

#: Colors that color-blind readers can tell apart (Okabe and Ito, 2008).
_DENSE, _SEPARABLE = "#009e73", "#cc79a7"
_BOUNDS: dict[Bound, tuple[str, str]] = {
    "compute": ("#56b4e9", "compute-bound"),
    "memory": ("#f0c96a", "memory-bound"),
    "launch": ("#999999", "launches"),
}
_INK, _GREY, _LINE = "#222222", "#666666", "#dddddd"
_WIDTH = 920

# The upper part: powers of ten of FLOPs per byte, and of FLOPs per second.
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 890, 86, 476
_INTENSITY, _SPEED = (-1, 3), (9, 15)
# The lower part: bars.
_BARS, _BAR_LEFT, _BAR_RIGHT, _BAR, _GAP, _BETWEEN = 586, 110, 830, 26, 10, 40
_SMALL = 10

#: Labels of both blocks' modules, in order: the label at a point, and the label in a short bar.
_PARTS = {
    "dense": (("3×3 convolution", "3×3"), ("batch norm", "norm"), ("ReLU", "ReLU")),
    "separable": (
        ("depthwise 3×3", "dw"),
        ("batch norm", "norm"),
        ("ReLU", "ReLU"),
        ("pointwise 1×1", "1×1"),
        ("batch norm", "norm"),
        ("ReLU", "ReLU"),
    ),
}
#: The dtype whose rate of products is used.
_PRECISION = {SERVER.name: "tfloat32", BOARD.name: "float32"}
_RATED = {SERVER.name: ("A100", "TF32"), BOARD.name: ("Raspberry Pi 5", "FP32")}


@dataclass(frozen=True)
class _Part:
    """A module of a block. It runs one operator."""

    names: tuple[str, str]
    #: FLOPs per byte.
    intensity: float
    #: Device → FLOPs per second; device → nanoseconds of compute, memory and launches.
    speed: dict[str, float]
    times: dict[str, tuple[int, int, int]]


def svg() -> str:
    """Return the chart of both blocks in float32, as SVG."""
    blocks = {name: _parts(name) for name in _PARTS}
    lines = list(chain(_legend(), _grid(), _roofs(), _points(blocks), _bars(blocks)))
    height = _BARS + 4 * (_BAR + _GAP) + _BETWEEN
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
            "<title>A dense and a depthwise-separable block on the rooflines of A100 and Raspberry Pi 5</title>",
            f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
            *lines,
            "</svg>\n",
        )
    )


def _parts(name: str) -> list[_Part]:
    block = counted({"dense": dense, "separable": separable}[name], EARLY, torch.float32)
    parts = []
    for place, names in enumerate(_PARTS[name]):
        module = block[str(place)]
        times = {device.name: parts_of_time(module.metrics, device.name) for device in (SERVER, BOARD)}
        speed = {device: module.total_flops * 10**9 / sum(spent[:2]) for device, spent in times.items()}
        parts.append(_Part(names, float(module.arithmetic_intensity), speed, times))
    return parts


def _x(intensity: float) -> float:
    first, last = _INTENSITY
    return _LEFT + (_RIGHT - _LEFT) * (log10(intensity) - first) / (last - first)


def _y(speed: float) -> float:
    first, last = _SPEED
    return _BOTTOM - (_BOTTOM - _TOP) * (log10(speed) - first) / (last - first)


def _legend() -> Iterable[str]:
    yield _text(_LEFT, 22, "64 channels, 112×112, batch 32, float32", weight="bold")
    yield _circle(_LEFT + 320, 18)
    yield _text(_LEFT + 332, 22, "dense block")
    yield _square(_LEFT + 440, 18)
    yield _text(_LEFT + 454, 22, "depthwise-separable block")


def _grid() -> Iterable[str]:
    for power in range(_INTENSITY[0], _INTENSITY[1] + 1):
        x = _x(10.0**power)
        yield _line(x, _TOP, x, _BOTTOM, _LINE)
        yield _text(x, _BOTTOM + 18, f"{10.0**power:g}", anchor="middle")
    for power in range(_SPEED[0], _SPEED[1] + 1):
        y = _y(10.0**power)
        yield _line(_LEFT, y, _RIGHT, y, _LINE)
        yield _text(_LEFT - 8, y + 4, _rate(10**power), anchor="end")
    yield _text((_LEFT + _RIGHT) / 2, _BOTTOM + 38, "FLOPs per byte", anchor="middle", fill=_GREY)


def _roofs() -> Iterable[str]:
    minimum, maximum = (10.0**power for power in _INTENSITY)
    tilt = -degrees(atan2(_y(1e10) - _y(1e11), _x(100.0) - _x(10.0)))
    for device in (SERVER, BOARD):
        rate = device.rate(_PRECISION[device.name])
        ridge = rate / device.bandwidth
        start = f"M{_x(minimum):.1f} {_y(minimum * device.bandwidth):.1f}"
        path = f"{start} L{_x(ridge):.1f} {_y(rate):.1f} H{_x(maximum):.1f}"
        yield f'<path d="{path}" fill="none" stroke="{_INK}" stroke-width="2"/>'
        for below, words in ((18, _RATED[device.name][0]), (33, f"{_rate(rate)} in {_RATED[device.name][1]}")):
            yield _text(_RIGHT - 6, _y(rate) + below, words, anchor="end")
        x, y = _x(0.7), _y(0.7 * device.bandwidth) - 8
        slope = f"{device.bandwidth / 10**9:,.4g} GB/s"
        yield _text(x, y, slope, anchor="middle", turned=f"rotate({tilt:.1f} {x:.1f} {y:.1f})")


def _points(blocks: dict[str, list[_Part]]) -> Iterable[str]:
    """Yield SVG: a line for each operator, and a mark for its speed on each device. Equal marks are drawn once."""
    labels = {part.names[0]: part.intensity for part in chain(*blocks.values())}
    for name, intensity in labels.items():
        x = _x(intensity)
        yield _line(x, _TOP, x, _BOTTOM, _GREY, dashed=True)
        yield _text(x, _TOP - 32, name, anchor="middle", size=_SMALL + 1)
        yield _text(x, _TOP - 20, f"{intensity:.3g}", anchor="middle", size=_SMALL, fill=_GREY)
    for draw, parts in ((_square, blocks["separable"]), (_circle, blocks["dense"])):
        marks = {(round(_x(part.intensity)), round(_y(speed))) for part in parts for speed in part.speed.values()}
        yield from (draw(x, y) for x, y in sorted(marks))


def _bars(blocks: dict[str, list[_Part]]) -> Iterable[str]:
    y = float(_BARS)
    x = float(_BAR_LEFT)
    for colour, words in _BOUNDS.values():
        yield f'<rect x="{x:.1f}" y="{y - 60:.1f}" width="12" height="12" fill="{colour}"/>'
        yield _text(x + 18, y - 50, words)
        x += 160
    for device in (SERVER, BOARD):
        longest = max(_total(parts, device) for parts in blocks.values())
        yield _text(_BAR_LEFT, y - 10, f"minimum time on {_RATED[device.name][0]} (estimate)", weight="bold")
        for (name, parts), mark in zip(blocks.items(), (_circle, _square), strict=True):
            yield mark(_BAR_LEFT - 86, y + _BAR / 2)
            yield _text(_BAR_LEFT - 10, y + _BAR / 2 + 4, name, anchor="end")
            yield from _bar(parts, device, y, (_BAR_RIGHT - _BAR_LEFT) / longest)
            y += _BAR + _GAP
        y += _BETWEEN


def _bar(parts: list[_Part], device: Device, y: float, scale: float) -> Iterable[str]:
    x = float(_BAR_LEFT)
    launches = 0
    for part in parts:
        compute, memory, launch = part.times[device.name]
        width = (compute + memory) * scale
        launches += launch
        yield _segment(x, y, width, _BOUNDS[bound_of(compute, memory, 0)][0])
        label = next((name for name in part.names if len(name) * 6.5 < width), "")
        if label:
            yield _text(x + width / 2, y + _BAR / 2 + 4, label, anchor="middle", size=_SMALL)
        x += width
    yield _segment(x, y, launches * scale, _BOUNDS["launch"][0])
    total = format_value(_total(parts, device), METRICS["time"])
    yield _text(x + launches * scale + 6, y + _BAR / 2 + 4, total, weight="bold")


def _total(parts: Iterable[_Part], device: Device) -> int:
    return sum(sum(part.times[device.name]) for part in parts)


def _segment(x: float, y: float, width: float, colour: str) -> str:
    box = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BAR}"'
    return f'<rect {box} fill="{colour}" stroke="#ffffff"/>'


def _circle(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{_DENSE}" stroke="#ffffff"/>'


def _square(x: float, y: float) -> str:
    return f'<rect x="{x - 8:.1f}" y="{y - 8:.1f}" width="16" height="16" fill="{_SEPARABLE}" stroke="#ffffff"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashed: bool = False) -> str:  # noqa: PLR0913 -- two points
    dashes = ' stroke-dasharray="2 4"' if dashed else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashes}/>'


def _text(  # noqa: PLR0913 -- how it looks
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 12,
    fill: str = _INK,
    weight: str = "normal",
    turned: str = "",
) -> str:
    look = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{fill}"'
    turn = f' transform="{turned}"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}{turn}>{escape(text)}</text>'


def _rate(rate: int) -> str:
    """Format a rate, as in "153.6 GFLOP/s"."""
    for prefix, power in (("P", 15), ("T", 12)):
        if rate >= 10**power:
            return f"{rate / 10**power:.4g} {prefix}FLOP/s"
    return f"{rate / 10**9:.4g} GFLOP/s"
