"""The terminal summary: a row for each measurement, its changes, and the next commands."""

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
from pytest_flopsbudget.reports.terminal.screen import end_of
from pytest_flopsbudget.reports.terminal.table import (
    MIN_ROOM,
    Column,
    ElasticColumn,
    build_table,
    room_beside,
)
from pytest_flopsbudget.reports.wording import RAN_ON_REAL_DATA, pluralize, update_command, visible
from pytest_flopsbudget.results.comparison import tightens
from pytest_flopsbudget.results.folding import fold, unfold, without_peaks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.table import Table

    from pytest_flopsbudget.config.settings import Settings
    from pytest_flopsbudget.reports.terminal.screen import Screen
    from pytest_flopsbudget.results.complexity import Complexity, Module
    from pytest_flopsbudget.results.verdict import Outcome, UpdateMode, Verdict
    from pytest_flopsbudget.storage.run_record import Entry


#: Columns of times are added only while the paths of modules keep this many characters.
_ROOM_FOR_PATHS = 20
_INDENT = "  "

#: Outcome → the colour in which it is written.
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
    """Return the lines of the summary's body.

    Args:
        entries: the tests that measured something.
        screen: the terminal that will show the lines.
        settings: the settings of the pyproject: the metric to show and the notes to leave out.
        verbosity: pytest's verbosity: below 0 no table, above 0 the modules too.
        accepts: whether this run accepts everything that it measures; then no command is suggested.
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
    names: list[str | Text] = []
    rows: list[tuple[str, ...]] = []
    styles: list[str] = []
    file = None
    for entry in entries:
        own_file, test_id = split_nodeid(entry.nodeid)
        for verdict in entry.verdicts:
            if own_file != file:
                file = own_file
                names.append(Text(file, style="bold"))
                rows.append(("",) * len(heads))
                styles.append("")
            names.append(f"{_INDENT}{_label(entry, verdict, test_id)}")
            rows.append(_cells(verdict, show))
            styles.append(STYLES[verdict.outcome])
    *amounts, outcomes = zip(*rows, strict=True)
    columns = [Column(head, cells) for head, cells in zip(heads, amounts, strict=False)]
    verdicts = [Text(outcome, style=style) for outcome, style in zip(outcomes, styles, strict=True)]
    columns.append(Column(heads[-1], verdicts, "left"))
    return build_table(ElasticColumn("measurement", names, _cut_name), columns, screen)


def _cut_name(name: str, room: int, screen: Screen) -> str:
    """Return the name, cut to ``room`` characters, its indentation kept."""
    indent = _INDENT if name.startswith(_INDENT) else ""
    return indent + end_of(name.removeprefix(indent), room - len(indent), screen)


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
    shown = verdict.complexity.modules
    modules = [
        (path or "(model)", module)
        for path, module in fold(
            shown if metric_of(show).aggregation in {"peak", "whole"} else without_peaks(shown)
        ).items()
        if measured_value(module.metrics, show) or module.params
    ]
    phases = verdict.complexity.phases
    names = [*(path for path, _ in modules), *(f"({name})" for name in phases)]
    none = [""] * len(phases)
    parts = [*(module.metrics for _, module in modules), *(phase.metrics for phase in phases.values())]
    columns = [
        Column("class", [*(visible(module.type) for _, module in modules), *none], "left", "crop"),
        Column("calls", [*(_calls(path, module, screen) for path, module in modules), *none], overflow="crop"),
        Column(title_of(show), [amount(metrics, show) for metrics in parts], overflow="crop"),
        Column("params", [*(_params(module) for _, module in modules), *none], overflow="crop"),
    ]
    columns[0] = _cut_classes(columns[0], max(MIN_ROOM, screen.width // 4))
    for column in _time_columns(verdict.complexity, parts):
        if room_beside([*columns, column], screen) < _ROOM_FOR_PATHS:
            # The beginning of a class name identifies it; the lines below the table describe devices without a column.
            shorter = [_cut_classes(columns[0], MIN_ROOM), *columns[1:]]
            if room_beside([*shorter, column], screen) < _ROOM_FOR_PATHS:
                break
            columns = shorter
        columns.append(column)
    return build_table(ElasticColumn(_label(entry, verdict, entry.nodeid), names, end_of), columns, screen)


def _cut_classes(column: Column, width: int) -> Column:
    return column._replace(cells=[cell[:width] for cell in column.cells])


def _time_columns(complexity: Complexity, parts: Sequence[Mapping[str, int]]) -> Iterator[Column]:
    """Yield a column for each device: the time of each of the ``parts``, and what bounds it."""
    for device in devices_in(complexity.metrics):
        cells = [details.bounded_time(metrics, device) for metrics in parts]
        yield Column(f"{device} (est.)", cells, overflow="crop")


def _collectives(complexity: Complexity) -> Iterator[str]:
    """Yield the bytes that this rank exchanged, a line for each collective operator."""
    metric = METRICS["communication"]
    for name, operator in complexity.operators.items():
        message = operator.metrics.get(metric.key, 0)
        if message:
            yield f"  {name}: {format_value(message, metric)} in {pluralize(operator.calls, 'call')}"


def _calls(path: str, module: Module, screen: Screen) -> str:
    """Return the calls, or "126x1" for a row that represents 126 modules."""
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
        yield f"{entry.nodeid}: {RAN_ON_REAL_DATA}"
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
