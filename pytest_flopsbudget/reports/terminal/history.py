"""The history of measurements, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from pytest_flopsbudget.quantities.formatting import format_percent, format_value
from pytest_flopsbudget.quantities.metrics import METRICS, metric_of, title_of
from pytest_flopsbudget.reports import cells
from pytest_flopsbudget.reports.law_facts import law_in_words
from pytest_flopsbudget.reports.terminal.chart import chart, sparkline
from pytest_flopsbudget.reports.terminal.screen import end_of, start_of
from pytest_flopsbudget.reports.terminal.table import Column, ElasticColumn, build_table
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.table import Table

    from pytest_flopsbudget.reports.terminal.screen import Screen
    from pytest_flopsbudget.storage.history import Point, Series


#: The width in characters of a sparkline.
_SPARKS = 24


def series_lines(series: Series, points: Sequence[Point], key: str, screen: Screen, *, limit: int) -> Iterator[str]:
    """Yield a chart and a table of one measurement.

    Args:
        series: the history of the measurement.
        points: the points of the history to show.
        key: the metric to show. Parameters are shown in addition.
        screen: the terminal that will show the lines.
        limit: the maximum number of rows. The newest rows are kept. 0 keeps all rows.
    """
    shown = points[-limit:]
    yield from screen.lines(Text(_in_words(series.points[-1]), style="bold"))
    valued = [(point, value) for point in shown if point.totals and (value := point.totals.value(key)) is not None]
    if len(valued) > 1:
        yield ""
        dates = [point.revision.date or "now" for point, _ in valued]
        yield from chart([value for _, value in valued], dates, metric_of(key), screen)
    yield ""
    before = points[-len(shown) - 1] if len(points) > len(shown) else None
    yield from screen.lines(_table(shown, before, key, screen))
    yield from _laws(shown, before, key, screen)
    if before is not None:
        yield f"{len(points) - len(shown):,} earlier ones; --limit 0 shows all"
    yield from (screen.text(line) for line in _renames(series))


def overview(chosen: Iterable[Series], key: str, screen: Screen) -> list[str]:
    """Return one line for each measurement, with a sparkline of its history."""
    heads = ("changes", "past", title_of(key), "change", "since")
    rows = []
    for series in chosen:
        points = series.changes([key])
        values = [value for point in points if point.totals and (value := point.totals.value(key)) is not None]
        if not values:
            continue
        totals = series.points[-1].totals
        last = (
            "removed"
            if totals is None
            else cells.amount(totals.metrics, key) or format_value(values[-1], metric_of(key))
        )
        change = format_percent(values[0], values[-1]) if values[0] != values[-1] else "="
        spark = sparkline(values, screen, _SPARKS)
        rows.append(
            (_in_words(series.points[-1]), (f"{len(points) - 1:,}", spark, last, change, points[0].revision.date))
        )
    columns = [
        Column(head, [row[i] for _, row in rows], "left" if head in {"past", "since"} else "right")
        for i, head in enumerate(heads)
    ]
    measurements = ElasticColumn("measurement", [label for label, _ in rows], end_of)
    return screen.lines(build_table(measurements, columns, screen))


def _table(points: Sequence[Point], before: Point | None, metric: str, screen: Screen) -> Table:
    keys = list(dict.fromkeys((metric, "params")))
    heads = ["commit", "date", title_of(metric), "change", *(METRICS[key].title for key in keys[1:])]
    rows = []
    for point in points:
        values = [_value(point, key) for key in keys]
        row = [point.revision.commit, point.revision.date, values[0], _change(before, point, metric), *values[1:]]
        rows.append((row, point.revision.subject))
        before = point
    rows.reverse()
    columns = [
        Column(head, [row[i] for row, _ in rows], "left" if head in {"commit", "date"} else "right")
        for i, head in enumerate(heads)
    ]
    subjects = ElasticColumn("subject", [subject for _, subject in rows], start_of, is_last=True)
    return build_table(subjects, columns, screen)


def _laws(points: Sequence[Point], before: Point | None, metric: str, screen: Screen) -> Iterator[str]:
    """Yield each law that the metric had, with the commits that changed its coefficients. The newest is first."""
    found: list[tuple[Point, str]] = []
    last = _law(before, metric)
    for point in points:
        law = _law(point, metric)
        if law != last:
            found.append((point, law))
        last = law
    if found:
        yield ""
        yield from screen.lines(Text(f"law of {metric}", style="bold"))
    for point, law in reversed(found):
        yield screen.text(f"{point.revision.commit}  {law or 'no law'}")


def _law(point: Point | None, metric: str) -> str:
    totals = point.totals if point is not None else None
    return "" if totals is None else law_in_words(totals.laws, metric, signs=False)


def _value(point: Point, metric: str) -> str:
    if point.totals is None:
        return "removed" if metric != "params" else ""
    return cells.amount(point.totals.metrics, metric) or "not measured"


def _change(before: Point | None, point: Point, metric: str) -> str:
    old = before.totals.value(metric) if before and before.totals else None
    new = point.totals.value(metric) if point.totals else None
    if new is None:
        return ""
    return "new" if old is None else "=" if old == new else format_percent(old, new)


def _renames(series: Series) -> Iterator[str]:
    for before, after in zip(series.points, series.points[1:], strict=False):
        if before.address != after.address:
            yield f"until {after.revision.commit} it was {_in_words(before)}"


def _in_words(point: Point) -> str:
    return visible(cells.label(point.address.nodeid, point.address.name, alone=True))
