"""Values over time, drawn with characters."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from pytest_flopsbudget.quantities.formatting import format_exact, format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flopsbudget.quantities.metrics import Amount, Metric
    from pytest_flopsbudget.reports.terminal.screen import Screen


#: The number of rows from the highest value to the lowest value; both rows count.
_HEIGHT = 7
#: The maximum number of columns for one value.
_WIDEST_STEP = 8


class _Pens(NamedTuple):
    """The characters with which a line is drawn."""

    axis: str
    flat: str
    upright: str
    #: Corners of the line. The first two turn from the left upward and downward. The other two come from below and from
    #: above, and turn to the right.
    left_up: str
    left_down: str
    from_below: str
    from_above: str
    levels: str


_UNICODE = _Pens("\u2524", "\u2500", "\u2502", "\u256f", "\u256e", "\u256d", "\u2570", "▁▂▃▄▅▆▇█")
_ASCII = _Pens("|", "-", "|", "'", ".", ".", "'", ".:-=+*#@")


def chart(values: Sequence[Amount], dates: Sequence[str], metric: Metric, screen: Screen) -> list[str]:
    """Draw a line through ``values``, scaled between the lowest and the highest value.

    Args:
        values: the values, at least one. The oldest value is first. If not all values fit, the oldest are left out.
        dates: the date of each value. The first and the last date are written below the chart.
        metric: the metric of the values.
        screen: the terminal that will show the lines.
    """
    pens = _UNICODE if screen.unicode else _ASCII
    while True:
        low, high = min(values), max(values)
        height = _HEIGHT if high > low else 1
        labels = _labels(low, high, height, metric)
        margin = max(map(len, labels.values()))
        room = max(1, screen.width - margin - 2)
        if len(values) <= room:
            break
        # The values that were left out may include the lowest or the highest value.
        values = values[-room:]
    columns = _columns(
        [_row(value, low, high, height) for value in values], min(_WIDEST_STEP, room // len(values)), height, pens
    )
    rows = [
        f"{labels.get(row, ''):>{margin}} {pens.axis}{''.join(column[row] for column in columns)}"
        for row in range(height)
    ]
    first, last = dates[-len(values)], dates[-1]
    width = max(len(columns), len(first) + 1 + len(last))
    below = last.rjust(width - len(first)) if len(values) > 1 else ""
    return [row.rstrip() for row in [*rows, f"{'':{margin + 2}}{first}{below}"]]


def sparkline(values: Sequence[Amount], screen: Screen, width: int) -> str:
    """Return the last ``width`` of ``values``, one character each, scaled between the lowest and highest value."""
    levels = (_UNICODE if screen.unicode else _ASCII).levels
    values = values[-width:]
    low, high = min(values), max(values)
    return "".join(levels[-1 - _row(value, low, high, len(levels))] for value in values)


def _row(value: Amount, low: Amount, high: Amount, height: int) -> int:
    """Return the row of a value; row 0 is at the top. Whole numbers are used, since floats cannot hold every value."""
    span = high - low
    return int(((high - value) * (height - 1) + span // 2) // span) if span else height - 1


def _labels(low: Amount, high: Amount, height: int, metric: Metric) -> dict[int, str]:
    """Return row → text for the first, middle and last row. Texts are exact if the short texts would be equal."""
    middle = (low + high) // 2 if metric.unit != "FLOPs/byte" else Fraction(low + high) / 2
    values: dict[int, Amount] = {height - 1: low} if height == 1 else {0: high, height // 2: middle, height - 1: low}
    short = {row: format_value(value, metric) for row, value in values.items()}
    if len(set(short.values())) == len(short):
        return short
    return {row: format_exact(value, metric) for row, value in values.items()}


def _columns(rows: Sequence[int], step: int, height: int, pens: _Pens) -> list[list[str]]:
    """Yield the columns of the chart. Each column is read from top to bottom."""
    columns = []
    before = rows[0]
    for row in rows:
        first = [" "] * height
        first[row] = pens.flat
        if row != before:
            upper, lower = min(row, before), max(row, before)
            first[upper:lower] = [pens.upright] * (lower - upper)
            first[before] = pens.left_up if row < before else pens.left_down
            first[row] = pens.from_below if row < before else pens.from_above
        columns.append(first)
        rest = [" "] * height
        rest[row] = pens.flat
        columns += [rest] * (step - 1)
        before = row
    return columns
