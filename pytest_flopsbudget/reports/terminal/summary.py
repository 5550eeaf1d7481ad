"""The terminal summary: a row a measurement, what changed, what to do next."""

from __future__ import annotations

from collections import Counter
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.text import Text

from pytest_flopsbudget.identifiers import split_nodeid
from pytest_flopsbudget.quantities.formatting import format_value
from pytest_flopsbudget.quantities.metrics import METRICS, devices_in, measured_value, metric_of, title_of
from pytest_flopsbudget.reports import details
from pytest_flopsbudget.reports.cells import amount, change, label, used
from pytest_flopsbudget.reports.failure import formula_hint, unknown_operators
from pytest_flopsbudget.reports.terminal.screen import MIN_ROOM, Screen, empty_table, end_of
from pytest_flopsbudget.reports.wording import pluralize, update_command, visible
from pytest_flopsbudget.results.comparison import tightens
from pytest_flopsbudget.results.folding import fold, unfold, without_peaks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import JustifyMethod
    from rich.table import Table

    from pytest_flopsbudget.config.settings import Settings
    from pytest_flopsbudget.results.complexity import Complexity, Module
    from pytest_flopsbudget.results.verdict import Outcome, UpdateMode, Verdict
    from pytest_flopsbudget.storage.run_record import Entry


#: Characters that paths of modules keep beside columns of times.
_ROOM_FOR_PATHS = 20

#: How verdicts are coloured.
STYLES: dict[Outcome, str] = {
    "over limit": "red",
    "regressed": "red",
    "unknown operators": "red",
    "accepted": "yellow",
    "improved": "green",
    "new": "cyan",
    "ok": "",
}


def summary(
    entries: Sequence[Entry], screen: Screen, settings: Settings, *, verbosity: int, accepts: bool
) -> list[str]:
    """The lines of the summary's body.

    Args:
        entries: the tests that measured something.
        screen: where the lines will stand.
        settings: the pyproject's; they say what to show and what to keep quiet about.
        verbosity: pytest's: below 0 no table, above 0 the modules too.
        accepts: whether this run accepts whatever it measures, so that there is nothing to advise.
    """
    lines: list[str] = []
    if not any(entry.verdicts for entry in entries):
        return [screen.text(line) for line in _closing(entries, settings, accepts=accepts)]
    if verbosity >= 0:
        lines += screen.lines(_table(entries, screen, settings.show))
    if verbosity > 0:
        for entry in entries:
            for verdict in entry.unpack_verdicts():
                lines += ["", *screen.lines(_modules(entry, verdict, screen, settings.show))]
                lines += [screen.text(line) for line in _collectives(verdict.complexity)]
                for line in details.detail_lines(verdict.complexity):
                    lines += wrap(
                        screen.text(visible(line)),
                        screen.width,
                        initial_indent="  ",
                        subsequent_indent="      ",
                        break_long_words=False,
                        break_on_hyphens=False,
                    )
    if verbosity >= 0:
        lines.append("")
    lines += [screen.text(line) for line in _closing(entries, settings, accepts=accepts)]
    return lines


def _table(entries: Iterable[Entry], screen: Screen, show: str) -> Table:
    heads = (title_of(show), "change", "budget", "params", "verdict")
    rows = [(entry, verdict, _cells(verdict, show)) for entry in entries for verdict in entry.verdicts]
    widths = [max(len(head), *(len(cells[i]) for *_, cells in rows)) for i, head in enumerate(heads)]
    room = screen.room_beside(widths)
    table = empty_table(screen)
    table.add_column("measurement", no_wrap=True, width=room)
    for head, width in zip(heads, widths, strict=True):
        table.add_column(head, justify="left" if head == "verdict" else "right", no_wrap=True, width=width)
    file = None
    for entry, verdict, cells in rows:
        own_file, test_id = split_nodeid(entry.nodeid)
        if own_file != file:
            file = own_file
            table.add_row(Text(end_of(file, room, screen), style="bold"))
        first = f"  {end_of(_label(entry, verdict, test_id), room - 2, screen)}"
        table.add_row(first, *cells[:-1], Text(cells[-1], style=STYLES[verdict.outcome]))
    return table


def _label(entry: Entry, verdict: Verdict, test_id: str) -> str:
    return visible(label(test_id, verdict.name, alone=len(entry.verdicts) == 1))


def _cells(verdict: Verdict, show: str) -> tuple[str, ...]:
    return (
        amount(verdict.complexity.metrics, show),
        change(verdict.comparison, show),
        used(verdict.share),
        format_value(verdict.complexity.params, METRICS["params"]),
        verdict.outcome,
    )


def _modules(entry: Entry, verdict: Verdict, screen: Screen, show: str) -> Table:
    table = empty_table(screen)
    shown = verdict.complexity.modules
    modules = [
        (path or "(model)", module)
        for path, module in fold(
            shown if metric_of(show).aggregation in {"peak", "whole"} else without_peaks(shown)
        ).items()
        if measured_value(module.metrics, show) or module.params
    ]
    rows = [path for path, _ in modules]
    cells = [
        [module.type, _calls(path, module, screen), amount(module.metrics, show), _params(module)]
        for path, module in modules
    ]
    for name, phase in verdict.complexity.phases.items():
        rows.append(f"({name})")
        cells.append(["", "", amount(phase.metrics, show), ""])
    heads = ["class", "calls", title_of(show), "params"]
    widths = _widths(heads, cells)
    widths[0] = min(widths[0], max(MIN_ROOM, screen.width // 4))
    parts = [*(module.metrics for _, module in modules), *(one.metrics for one in verdict.complexity.phases.values())]
    for head, column in _time_columns(verdict.complexity, parts):
        wide = max(map(len, (head, *column)))
        if screen.room_beside([*widths, wide]) < _ROOM_FOR_PATHS:
            # A class is known by how it begins; the lines below the table tell of devices that have no column.
            shorter = [min(widths[0], MIN_ROOM), *widths[1:]]
            if screen.room_beside([*shorter, wide]) < _ROOM_FOR_PATHS:
                break
            widths = shorter
        heads.append(head)
        widths.append(wide)
        for row, cell in zip(cells, column, strict=True):
            row.append(cell)
    room = screen.room_beside(widths)
    table.add_column(end_of(_label(entry, verdict, entry.nodeid), room, screen), no_wrap=True, width=room)
    for head, width in zip(heads, widths, strict=True):
        justify: JustifyMethod = "left" if head == "class" else "right"
        table.add_column(head, justify=justify, no_wrap=True, width=width, overflow="crop")
    for path, row in zip(rows, cells, strict=True):
        table.add_row(end_of(path, room, screen), row[0][: widths[0]], *row[1:])
    return table


def _widths(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max([len(head), *(len(row[i]) for row in rows)]) for i, head in enumerate(heads)]


def _time_columns(complexity: Complexity, parts: Sequence[Mapping[str, int]]) -> Iterator[tuple[str, list[str]]]:
    """Head and cells of a column for each device: the time of each of the ``parts``, and what bounds it."""
    for device in devices_in(complexity.metrics):
        yield f"{device} (est.)", [details.bounded_time(metrics, device) for metrics in parts]


def _collectives(complexity: Complexity) -> Iterator[str]:
    """What this rank passed to others, by the operators that did; nothing where none did."""
    metric = METRICS["communication"]
    for name, operator in complexity.operators.items():
        message = operator.metrics.get(metric.key, 0)
        if message:
            yield f"  {name}: {format_value(message, metric)} in {pluralize(operator.calls, 'call')}"


def _calls(path: str, module: Module, screen: Screen) -> str:
    """Calls, or "126x1" for a row that stands for 126 modules."""
    modules = len(unfold({path: module}))
    return screen.text(f"{modules}x{module.calls}") if modules > 1 else f"{module.calls:,}"


def _params(module: Module) -> str:
    return format_value(module.params, METRICS["params"])


def _closing(entries: Sequence[Entry], settings: Settings, *, accepts: bool) -> Iterator[str]:
    verdicts = [verdict for entry in entries for verdict in entry.verdicts]
    total = sum(verdict.complexity.flops for verdict in verdicts)
    seconds = sum(entry.seconds for entry in entries)
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    words = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in STYLES if outcomes[outcome])
    if verdicts:
        yield (
            f"{pluralize(len(verdicts), 'measurement')}: {words}; {format_value(total, METRICS['flops'])} counted "
            f"in {seconds:.2f} s"
        )
    for entry in entries:
        for verdict in entry.verdicts:
            yield from _notes(entry, verdict, settings)
        if entry.vanished and not accepts:
            yield f"{entry.nodeid}: in the baseline, but no longer measured: {', '.join(entry.vanished)}"
    if settings.unknown_operators == "warn":
        yield from formula_hint(verdict.complexity for verdict in verdicts)
    if accepts:
        return
    waiting = {entry.nodeid: [v for v in entry.verdicts if not v.accepted] for entry in entries}
    tighter = [nodeid for nodeid, left in waiting.items() if any(tightens(v.comparison) for v in left)]
    if tighter:
        yield f"{pluralize(len(tighter), 'test')} improved; tighten the baseline: {_command(tighter, 'improved')}"
    other = [nodeid for nodeid, left in waiting.items() if any(_is_otherwise_improved(v) for v in left)]
    if other:
        yield f"{pluralize(len(other), 'test')} improved, measured otherwise; to accept: {_command(other)}"
    new = [nodeid for nodeid, left in waiting.items() if any(v.comparison.status == "new" for v in left)]
    if new and settings.missing_baseline != "ignore":
        yield f"{pluralize(len(new), 'test')} without a baseline; write it: {_command(new, 'new')}"


def _is_otherwise_improved(verdict: Verdict) -> bool:
    return verdict.outcome == "improved" and not tightens(verdict.comparison)


def _notes(entry: Entry, verdict: Verdict, settings: Settings) -> Iterator[str]:
    if verdict.complexity.execution == "real":
        yield f"{entry.nodeid}: ran on real data, as shapes do not tell its way; the count may hang on that data"
    for note in (*verdict.complexity.notes, *details.noisy_latency_lines(verdict)):
        yield f"{entry.nodeid}: {note}"
    if verdict.complexity.unknown_operators and settings.unknown_operators != "ignore":
        yield f"{entry.nodeid}: operators without a formula, missing from the count:"
        yield from unknown_operators(verdict.complexity)
    if verdict.comparison.inputs_changed and not verdict.fails:
        old, new = verdict.comparison.inputs_changed
        yield f"{entry.nodeid}: the input changed: {', '.join(old)} -> {', '.join(new)}"
    if verdict.comparison.vanished:
        yield f"{entry.nodeid}: in the baseline, but no longer measured: {', '.join(verdict.comparison.vanished)}"


def _command(nodeids: Sequence[str], update_mode: UpdateMode | None = None) -> str:
    return update_command(nodeids[0] if len(nodeids) == 1 else None, update_mode)
