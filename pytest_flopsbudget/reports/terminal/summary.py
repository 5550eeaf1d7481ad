"""The terminal summary: a row for each measurement, its changes, and the next commands."""

from __future__ import annotations

from collections import Counter, defaultdict
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.text import Text

from pytest_flopsbudget.identifiers import split_nodeid, update_command
from pytest_flopsbudget.quantities.formatting import format_value
from pytest_flopsbudget.quantities.metrics import METRICS, devices_in, measured_value, metric_of, title_of
from pytest_flopsbudget.reports import details
from pytest_flopsbudget.reports.broken_limits import warning_lines
from pytest_flopsbudget.reports.causes import cause_lines
from pytest_flopsbudget.reports.cells import amount, change_of, is_news, label, used
from pytest_flopsbudget.reports.growth import signature_changes
from pytest_flopsbudget.reports.moved import moved_in_run, moved_values
from pytest_flopsbudget.reports.terminal.screen import end_of, wrapped
from pytest_flopsbudget.reports.terminal.table import (
    MIN_ROOM,
    Column,
    ElasticColumn,
    build_table,
    room_beside,
)
from pytest_flopsbudget.reports.unknown import formula_hint, unknown_operators
from pytest_flopsbudget.results.causes import find_causes
from pytest_flopsbudget.results.comparison import tightens
from pytest_flopsbudget.results.data import PLEASE_REPORT
from pytest_flopsbudget.results.folding import fold, unfold_path, without_peaks
from pytest_flopsbudget.safe_text import pluralize, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.table import Table

    from pytest_flopsbudget.config.settings import Settings
    from pytest_flopsbudget.reports.terminal.screen import Screen
    from pytest_flopsbudget.results.causes import Cause
    from pytest_flopsbudget.results.comparison import Status
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.data import Module
    from pytest_flopsbudget.results.verdict import Outcome, UpdateMode, Verdict
    from pytest_flopsbudget.storage.run_record import Entry


#: Columns of times are added only if the paths of modules then still have this many characters.
_ROOM_FOR_PATHS = 20
_INDENT = "  "
#: If one cause fails more than twice this number of tests, only this number of them have a row.
_MAX_ROWS = 5
#: The maximum number of lines on values beyond a warning limit.
_MAX_WARNINGS = 10
#: The maximum number of causes that are described.
_MAX_CAUSES = 10

#: Outcome → the colour of the outcome in the table.
STYLES: dict[Outcome, str] = {
    "over limit": "red",
    "under limit": "red",
    "unchecked limit": "red",
    "regressed": "red",
    "unknown operators": "red",
    "accepted": "yellow",
    "improved": "green",
    "changed": "yellow",
    "new": "cyan",
    "ok": "",
}


def summary(  # noqa: PLR0913 -- what was measured, where it is shown, and what is left out
    entries: Sequence[Entry],
    screen: Screen,
    settings_of: Callable[[Path], Settings],
    *,
    show: str,
    verbosity: int,
    accepts: bool,
    paths: Sequence[str] = (),
) -> list[str]:
    """Return the lines of the summary's body.

    Args:
        entries: the tests that measured something.
        screen: the terminal that will show the lines.
        settings_of: returns the settings for the tests of a file. They decide which notes are left out.
        show: the metric to show.
        verbosity: pytest's verbosity. Below 0, there is no table. Above 0, modules are shown too.
        accepts: whether this run accepts everything that it measures. If it does, no command is suggested.
        paths: the files and folders on the command line. Suggested commands repeat them.
    """
    lines: list[str] = []
    if not any(entry.verdicts for entry in entries):
        return [screen.text(line) for line in _closing(entries, settings_of, paths, accepts=accepts)]
    causes = find_causes([(entry.nodeid, entry.verdicts) for entry in entries])
    rows = [*_rows(entries, causes, every=verbosity > 0)]
    if verbosity >= 0 and rows:
        lines += screen.lines(_table(rows, screen, show))
    if verbosity > 0:
        for entry in entries:
            for verdict in entry.unpack_verdicts():
                lines += ["", *screen.lines(_modules(entry, verdict, screen, show))]
                lines += [screen.text(line) for line in _collectives(verdict.complexity)]
                for line in (*moved_values(verdict), *details.detail_lines(verdict.complexity)):
                    lines += wrap(
                        screen.text(visible(line)),
                        screen.width,
                        initial_indent="  ",
                        subsequent_indent="      ",
                        break_long_words=False,
                        break_on_hyphens=False,
                    )
    if lines:
        lines.append("")
    lines += _cause_blocks(causes, screen)
    lines += [screen.text(line) for line in _closing(entries, settings_of, paths, accepts=accepts)]
    return lines


def _rows(entries: Iterable[Entry], causes: Iterable[Cause], *, every: bool) -> Iterator[tuple[Entry, Verdict]]:
    """Yield the measurements that a reader has to look at, or all of them if ``every`` is true.

    If many tests fail for one cause, only its first tests are included. The description of the cause counts them all.
    """
    many = {nodeid for cause in causes if len(cause.tests) > 2 * _MAX_ROWS for nodeid in cause.tests[_MAX_ROWS:]}
    for entry in entries:
        for verdict in entry.verdicts:
            if every or (is_news(verdict) and not (verdict.fails and entry.nodeid in many)):
                yield entry, verdict


def _cause_blocks(causes: Sequence[Cause], screen: Screen) -> Iterator[str]:
    """Yield the lines on each cause for which several tests fail. The text of a failure describes a single test."""
    shared = [cause for cause in causes if len(cause.tests) > 1]
    for cause in shared[:_MAX_CAUSES]:
        title, *lines = map(screen.text, cause_lines(cause))
        titles = wrapped(title, screen.width, hanging=8)
        if screen.colour:
            titles = screen.lines(*(Text(one, style="bold red", overflow="ignore", no_wrap=True) for one in titles))
        yield from titles
        tests, *command = lines
        yield from (*wrapped(tests, screen.width), *command)
    if len(shared) > _MAX_CAUSES:
        yield f"and {pluralize(len(shared) - _MAX_CAUSES, 'more cause')} of several failures"
    if shared:
        yield ""


def _table(measured: Iterable[tuple[Entry, Verdict]], screen: Screen, show: str) -> Table:
    heads = (title_of(show), "change", "limit", "params", "verdict")
    names: list[str | Text] = []
    rows: list[tuple[str, ...]] = []
    styles: list[str] = []
    file = None
    for entry, verdict in measured:
        own_file, test_id = split_nodeid(entry.nodeid)
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
    """Return the name, cut to ``room`` characters. Its indentation is kept."""
    indent = _INDENT if name.startswith(_INDENT) else ""
    return indent + end_of(name.removeprefix(indent), room - len(indent), screen)


def _label(entry: Entry, verdict: Verdict, test_id: str) -> str:
    return visible(label(test_id, verdict.name, alone=len(entry.verdicts) == 1))


def _cells(verdict: Verdict, show: str) -> tuple[str, ...]:
    return (
        amount(verdict.complexity.metrics, show),
        change_of(verdict, show),
        used(verdict.share),
        format_value(verdict.complexity.params, METRICS["params"]),
        verdict.outcome,
    )


def _modules(entry: Entry, verdict: Verdict, screen: Screen, show: str) -> Table:
    shown = verdict.complexity.modules
    aggregation = metric_of(show).aggregation
    modules = [
        (path or "(model)", module)
        for path, module in fold(shown if aggregation in {"peak", "whole"} else without_peaks(shown)).items()
        if measured_value(module.metrics, show) or module.params
    ]
    phases = verdict.complexity.phases
    names = [*(path for path, _ in modules), *(f"({name})" for name in phases)]
    none = [""] * len(phases)
    # A row of equal siblings shows their sum, as failures and the page of --flops-budget-explain do.
    counts = [1 if aggregation in {"peak", "whole"} else len(unfold_path(path)) for path, _ in modules]
    parts: list[Mapping[str, int]] = [
        {key: value * count for key, value in module.metrics.items()}
        for (_, module), count in zip(modules, counts, strict=True)
    ]
    parts += [phase.metrics for phase in phases.values()]
    columns = [
        Column("class", [*(visible(module.type) for _, module in modules), *none], "left", "crop"),
        Column("calls", [*(_calls(path, module, screen) for path, module in modules), *none], overflow="crop"),
        Column(title_of(show), [amount(metrics, show) for metrics in parts], overflow="crop"),
        Column("params", [*(_params(part) for part in parts[: len(modules)]), *none], overflow="crop"),
    ]
    columns[0] = _cut_classes(columns[0], max(MIN_ROOM, screen.width // 4))
    for column in _time_columns(verdict.complexity, parts):
        if room_beside([*columns, column], screen) < _ROOM_FOR_PATHS:
            # The beginning of a class name is enough to identify it. The lines below the table describe devices without
            # a column.
            shorter = [_cut_classes(columns[0], MIN_ROOM), *columns[1:]]
            if room_beside([*shorter, column], screen) < _ROOM_FOR_PATHS:
                break
            columns = shorter
        columns.append(column)
    return build_table(ElasticColumn(_label(entry, verdict, entry.nodeid), names, end_of), columns, screen)


def _cut_classes(column: Column, width: int) -> Column:
    return column._replace(cells=[cell[:width] for cell in column.cells])


def _time_columns(complexity: Complexity, parts: Sequence[Mapping[str, int]]) -> Iterator[Column]:
    """Yield one column for each device: the time of each of the ``parts``, and what bounds this time."""
    for device in devices_in(complexity.metrics):
        cells = [details.bounded_time(metrics, device) for metrics in parts]
        yield Column(f"{device} (est.)", cells, overflow="crop")


def _collectives(complexity: Complexity) -> Iterator[str]:
    """Yield one line for each collective operator, with the bytes that this rank exchanged."""
    metric = METRICS["communication"]
    for name, operator in complexity.operators.items():
        message = operator.metrics.get(metric.key, 0)
        if message:
            yield f"  {name}: {format_value(message, metric)} in {pluralize(operator.calls, 'call')}"


def _calls(path: str, module: Module, screen: Screen) -> str:
    """Return the text for the number of calls. A row for 126 modules with one call each has the text "126x1"."""
    modules = len(unfold_path(path))
    return screen.text(f"{modules}x{module.calls}") if modules > 1 else f"{module.calls:,}"


def _params(metrics: Mapping[str, int]) -> str:
    return format_value(metrics.get("params", 0), METRICS["params"])


def _closing(
    entries: Sequence[Entry], settings_of: Callable[[Path], Settings], paths: Sequence[str], *, accepts: bool
) -> Iterator[str]:
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
    own = sum(entry.own_failure for entry in entries)
    if own:
        yield f"{pluralize(own, 'test')} failed for a reason other than {'its' if own == 1 else 'their'} budget"
    yield from _notes_to_report(entries)
    warned = [
        f"{_label(entry, verdict, entry.nodeid)}: {line}"
        for entry in entries
        for verdict in entry.verdicts
        for line in warning_lines(verdict.warned)
    ]
    yield from warned[:_MAX_WARNINGS]
    if len(warned) > _MAX_WARNINGS:
        yield f"and {pluralize(len(warned) - _MAX_WARNINGS, 'more warning')} like these"
    for entry in entries:
        for verdict in entry.verdicts:
            yield from _notes(entry, verdict, settings_of(entry.test_file))
        if entry.vanished and not accepts:
            yield f"{entry.nodeid}: in the baseline, but no longer measured: {', '.join(entry.vanished)}"
    yield from formula_hint(
        verdict.complexity
        for entry in entries
        if settings_of(entry.test_file).unknown_operators == "warn"
        for verdict in entry.verdicts
    )
    # If another revision takes the place of the baselines, the run has no baseline to write.
    if not accepts and not any(verdict.comparison.revision for entry in entries for verdict in entry.verdicts):
        yield from _suggestions(entries, settings_of, paths)


def _suggestions(
    entries: Sequence[Entry], settings_of: Callable[[Path], Settings], paths: Sequence[str]
) -> Iterator[str]:
    """Yield the commands that write the run's measurements to the baselines."""

    def command(concerned: Sequence[Entry], update_mode: UpdateMode | None = None) -> str:
        return update_command(*([concerned[0].nodeid] if len(concerned) == 1 else paths), update_mode=update_mode)

    # A command is shown only if it would write the baseline. An update writes only the baselines of tests that pass.
    improved = [entry for entry in entries if entry.would_pass() and _has(entry, "improved")]
    tighter = [entry for entry in improved if entry.would_pass("improved") and any(map(_tightens, _waiting(entry)))]
    other = [entry for entry in improved if not any(map(_tightens, _waiting(entry)))]
    changed = [entry for entry in entries if entry.would_pass() and _has(entry, "changed")]
    new = [
        entry
        for entry in entries
        if settings_of(entry.test_file).missing_baseline != "ignore" and entry.would_pass("new") and _has(entry, "new")
    ]
    if tighter:
        yield f"{pluralize(len(tighter), 'test')} improved; tighten the baseline: {command(tighter, 'improved')}"
    if other:
        yield f"{pluralize(len(other), 'test')} improved, measured otherwise; to accept: {command(other)}"
    # The command that accepts a failing test accepts its moved metrics too.
    moved = [
        entry
        for entry in entries
        if not any(verdict.fails for verdict in entry.verdicts)
        and entry.would_pass()
        and any(map(_is_moved, _waiting(entry)))
    ]
    if moved:
        yield from moved_in_run((verdict for entry in moved for verdict in _waiting(entry)), command(moved))
    if changed:
        yield f"{pluralize(len(changed), 'test')} changed: another input or model; to accept: {command(changed)}"
    if new:
        yield f"{pluralize(len(new), 'test')} without a baseline; write it: {command(new, 'new')}"


def _waiting(entry: Entry) -> list[Verdict]:
    return [verdict for verdict in entry.verdicts if not verdict.accepted]


def _has(entry: Entry, status: Status) -> bool:
    return any(verdict.comparison.status == status for verdict in _waiting(entry))


def _is_moved(verdict: Verdict) -> bool:
    return any(not change.judged for change in verdict.comparison.changes)


def _tightens(verdict: Verdict) -> bool:
    return tightens(verdict.comparison)


def _notes_to_report(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield each note that asks for a report, once for the whole run, with the tests that have it."""
    tests: defaultdict[str, list[str]] = defaultdict(list)
    for entry in entries:
        for note in dict.fromkeys(note for verdict in entry.verdicts for note in verdict.complexity.notes):
            if PLEASE_REPORT in note:
                tests[note].append(entry.nodeid)
    for note, nodeids in tests.items():
        others = f" and {pluralize(len(nodeids) - 1, 'other test')}" if len(nodeids) > 1 else ""
        yield f"{nodeids[0]}{others}: {note}"


def _notes(entry: Entry, verdict: Verdict, settings: Settings) -> Iterator[str]:
    place = _label(entry, verdict, entry.nodeid)
    notes = (note for note in verdict.complexity.notes if PLEASE_REPORT not in note)
    for note in (*notes, *details.noisy_latency_lines(verdict)):
        yield f"{place}: {note}"
    if verdict.complexity.unknown_operators and settings.unknown_operators != "ignore":
        yield f"{place}: operators without a formula, missing from the count:"
        yield from unknown_operators(verdict.complexity)
    if not verdict.fails:
        for line in signature_changes(verdict.comparison):
            yield f"{place}: {line}"
    if verdict.comparison.vanished:
        yield f"{place}: in the baseline, but no longer measured: {', '.join(verdict.comparison.vanished)}"
