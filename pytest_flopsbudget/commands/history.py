"""``history PATTERN``: what the baseline said of a test, commit by commit."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.commands import git
from pytest_flopsbudget.commands.nodeids import file_of_baseline, is_baseline, matching, near
from pytest_flopsbudget.errors import BaselineError, UsageError
from pytest_flopsbudget.reports import cells
from pytest_flopsbudget.reports.text import visible
from pytest_flopsbudget.results import baseline_text
from pytest_flopsbudget.results.history import Revision, Step, trace
from pytest_flopsbudget.results.metrics import METRICS
from pytest_flopsbudget.results.totals import read_totals
from pytest_flopsbudget.units import format_percent, format_value, nearest_spelling

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.table import Table
    from rich.text import Text

    from pytest_flopsbudget.commands.output import Output
    from pytest_flopsbudget.reports.screen import Screen
    from pytest_flopsbudget.results.history import Point, Series
    from pytest_flopsbudget.results.totals import Tests

SUMMARY = "show a test's cost over the commits of its baseline"
DESCRIPTION = """\
Read the past of baselines from git, and show a chart and a table of each measurement that PATTERN names: a node id, the
file, class or function that it belongs to, a pattern with * and ?, or a part of it. Renamed tests and moved files are
followed. Of merges it is what they brought to the branch that is checked out.
"""
EXAMPLES = """\
examples:
  python -m pytest_flopsbudget history tests/test_net.py::test_net
  python -m pytest_flopsbudget history resnet --metric macs --limit 5
  python -m pytest_flopsbudget history            one line for each measurement
"""

#: So many measurements get a chart each; more of them a line each.
_MOST_CHARTS = 5
#: Rows of a table, unless --limit says otherwise.
_ROWS = 20
_SPARKS = 24
_NOT_COMMITTED = Revision("-", "", "(not committed)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="*", help="which tests; all if it is left out")
    parser.add_argument(
        "--metric", type=_metric, default="flops", metavar="METRIC", help="what to show; flops if it is left out"
    )
    parser.add_argument("--all", action="store_true", help="also the commits that left the value as it was")
    parser.add_argument(
        "--limit", type=_limit, default=_ROWS, metavar="N", help=f"the newest N rows; {_ROWS} if left out, 0 for all"
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Show the past.

    Raises:
        UsageError: no git, no repository, or no such test in any commit.
    """
    here = Path.cwd()
    repository = git.Repository(here)
    series = trace(_steps(repository, here, output))
    chosen = _chosen(series, arguments.pattern)
    if repository.shallow:
        output.error("the clone is shallow, and so is its past; git fetch --unshallow brings the rest")
    if len(chosen) > _MOST_CHARTS:
        output.lines(output.screen.lines(_overview(chosen, arguments.metric, output.screen)))
        return 0
    for number, one in enumerate(chosen):
        if number:
            output.line()
        output.lines(_in_full(one, arguments, output.screen))
    return 0


def _metric(text: str) -> str:
    if text not in METRICS:
        near_one = nearest_spelling(text, METRICS)
        hint = f"did you mean {near_one}? " if near_one else ""
        raise argparse.ArgumentTypeError(f"no metric {text!r}; {hint}There are {', '.join(METRICS)}")
    return text


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows; write 20, or 0 for all")
    return int(text[:9])


# Reading


def _steps(repository: git.Repository, folder: Path, output: Output) -> Iterator[Step]:
    """The commits that changed baselines, oldest first, and what is not committed yet."""
    commits = list(repository.log())
    pending: dict[str, str] = {}
    with repository.objects() as objects:
        for commit in reversed(commits):
            files: dict[str, Tests] = {}
            moved = pending | {new: old for new, old in commit.moved.items() if is_baseline(old)}
            for path, name in commit.files.items():
                if not is_baseline(path) or path in moved.values():
                    continue
                place = f"{commit.short}:{path}"
                tests = {} if name is None else _read(objects.read(name), place, output)
                if tests is None:
                    continue
                files[file_of_baseline(path)] = tests
            # A move to a file that cannot be read is made once it can be.
            made = {new: old for new, old in moved.items() if file_of_baseline(new) in files}
            pending = {new: old for new, old in moved.items() if new not in made}
            files |= {file_of_baseline(old): {} for old in made.values() if file_of_baseline(old) not in files}
            names = {file_of_baseline(new): file_of_baseline(old) for new, old in made.items()}
            yield Step(Revision(commit.short, commit.date, visible(commit.subject)), files, names)
    changed: dict[str, Tests] = {}
    for path in filter(is_baseline, repository.uncommitted()):
        tests = _read_file(folder / path, path, output)
        if tests is not None:
            changed[file_of_baseline(path)] = tests
    if changed:
        yield Step(_NOT_COMMITTED, changed)


def _read(data: bytes, place: str, output: Output) -> Tests | None:
    """The totals of a baseline; None where it cannot be read, which is told."""
    try:
        return read_totals(data, Path(place))
    except BaselineError as error:
        output.error(f"passed over: {str(error).removesuffix(baseline_text.REMEDY).rstrip()}")
        return None


def _read_file(file: Path, path: str, output: Output) -> Tests | None:
    try:
        return _read(file.read_bytes(), path, output)
    except FileNotFoundError:
        return {}
    except OSError as error:
        output.error(f"passed over: {path}: cannot be read: {error.strerror}")
        return None


def _chosen(series: Sequence[Series], pattern: str) -> list[Series]:
    """What ``pattern`` means among the tests that there are, or else among those that there were."""
    for known in ([one for one in series if one.lives], series):
        nodeids = matching(dict.fromkeys(one.address.nodeid for one in known), pattern)
        if nodeids:
            return [one for one in known if one.address.nodeid in nodeids]
    former = matching(dict.fromkeys(nodeid for one in series for nodeid in one.nodeids), pattern)
    chosen = [one for one in series if not one.nodeids.isdisjoint(former)]
    if chosen:
        return chosen
    if not series:
        raise UsageError("no commit has a baseline below this folder; write one with pytest --flops-budget-update")
    raise UsageError(f"no test matches {pattern!r}; {near(pattern, [one.address.nodeid for one in series])}")


# Showing


def _in_full(series: Series, arguments: argparse.Namespace, screen: Screen) -> Iterator[str]:
    from pytest_flopsbudget.reports.chart import chart  # noqa: PLC0415 -- rich comes with it, and errors do without

    metric = METRICS[arguments.metric]
    points = series.points if arguments.all else series.changes(dict.fromkeys((metric.key, "params")))
    shown = points[-arguments.limit :]
    yield from screen.lines(_bold(_label(series)))
    valued = [
        (point, value) for point in shown if point.totals and (value := point.totals.value(metric.key)) is not None
    ]
    if len(valued) > 1:
        yield ""
        dates = [point.revision.date or "now" for point, _ in valued]
        yield from chart([value for _, value in valued], dates, metric, screen)
    yield ""
    before = points[-len(shown) - 1] if len(points) > len(shown) else None
    yield from screen.lines(_table(shown, before, metric.key, screen))
    if before is not None:
        yield f"{len(points) - len(shown):,} earlier ones; --limit 0 shows all"
    yield from (screen.text(line) for line in _renames(series))


def _table(points: Sequence[Point], before: Point | None, metric: str, screen: Screen) -> Table:
    from pytest_flopsbudget.reports.screen import empty_table, start_of  # noqa: PLC0415

    table = empty_table(screen)
    keys = list(dict.fromkeys((metric, "params")))
    heads = ["commit", "date", METRICS[metric].title, "change", *(METRICS[key].title for key in keys[1:])]
    rows = []
    for point in points:
        values = [_value(point, key) for key in keys]
        row = [point.revision.commit, point.revision.date, values[0], _change(before, point, metric), *values[1:]]
        rows.append((row, point.revision.subject))
        before = point
    widths = [max(len(head), *(len(row[i]) for row, _ in rows)) for i, head in enumerate(heads)]
    for head, width in zip(heads, widths, strict=True):
        left = head in {"commit", "date"}
        table.add_column(head, justify="left" if left else "right", no_wrap=True, width=width)
    room = screen.room_beside(widths)
    table.add_column("subject", no_wrap=True, width=room)
    for row, subject in reversed(rows):
        table.add_row(*row, start_of(subject, room, screen))
    return table


def _value(point: Point, metric: str) -> str:
    if point.totals is None:
        return "removed" if metric != "params" else ""
    value = point.totals.value(metric)
    return "not measured" if value is None else format_value(value, METRICS[metric])


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


def _label(series: Series) -> str:
    return _in_words(series.points[-1])


def _bold(text: str) -> Text:
    from rich.text import Text  # noqa: PLC0415 -- see above

    return Text(text, style="bold")


def _overview(chosen: Iterable[Series], metric: str, screen: Screen) -> Table:
    from pytest_flopsbudget.reports.chart import sparkline  # noqa: PLC0415 -- see above
    from pytest_flopsbudget.reports.screen import empty_table, end_of  # noqa: PLC0415

    heads = ("changes", "past", METRICS[metric].title, "change", "since")
    rows = []
    for series in chosen:
        points = series.changes([metric])
        values = [value for point in points if point.totals and (value := point.totals.value(metric)) is not None]
        if not values:
            continue
        changes = f"{len(points) - 1:,}"
        last = format_value(values[-1], METRICS[metric]) if series.lives else "removed"
        change = format_percent(values[0], values[-1]) if values[0] != values[-1] else "="
        spark = sparkline(values, screen, _SPARKS)
        rows.append((_label(series), (changes, spark, last, change, points[0].revision.date)))
    widths = [max([len(head), *(len(row[i]) for _, row in rows)]) for i, head in enumerate(heads)]
    room = screen.room_beside(widths)
    table = empty_table(screen)
    table.add_column("measurement", no_wrap=True, width=room)
    for head, width in zip(heads, widths, strict=True):
        left = head in {"past", "since"}
        table.add_column(head, justify="left" if left else "right", no_wrap=True, width=width)
    for label, row in rows:
        table.add_row(end_of(label, room, screen), *row)
    return table
