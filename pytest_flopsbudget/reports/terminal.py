"""The terminal summary: a row a measurement, what changed, what to do next."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_flopsbudget.reports.cells import change, label, used
from pytest_flopsbudget.reports.failure import formula_hint, unknown_operators
from pytest_flopsbudget.reports.text import can_show_signs, counted, update_command, with_signs
from pytest_flopsbudget.results.baseline import split_nodeid
from pytest_flopsbudget.results.fold import fold, unfold
from pytest_flopsbudget.results.metrics import METRICS
from pytest_flopsbudget.units import format_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import JustifyMethod, RenderableType

    from pytest_flopsbudget.ledger import Entry
    from pytest_flopsbudget.results.complexity import Module
    from pytest_flopsbudget.results.verdict import Outcome, Verdict
    from pytest_flopsbudget.settings import Settings, Shown

_STYLES: dict[Outcome, str] = {
    "over limit": "red",
    "regressed": "red",
    "unknown operators": "red",
    "accepted": "yellow",
    "improved": "green",
    "new": "cyan",
    "ok": "",
}

#: A line under the head, drawn with what every terminal has.
_ASCII_HEAD = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)

#: The narrowest first column, in characters.
_LEAST_ROOM = 12
#: From this width on, columns stand apart.
_WIDE = 100


class Screen:
    """What the terminal can show."""

    def __init__(self, *, width: int, colour: bool, encoding: str | None) -> None:
        self.width = width
        self.colour = colour
        self.unicode = can_show_signs(encoding)
        #: Characters between two columns.
        self.gap = 1 if width < _WIDE else 2

    def room_beside(self, widths: Sequence[int]) -> int:
        """Characters that are left for the first column of a table beside others of these widths."""
        return max(_LEAST_ROOM, self.width - sum(widths) - self.gap * len(widths))

    def lines(self, *parts: RenderableType) -> list[str]:
        """The parts, laid out."""
        stream = io.StringIO()
        console = Console(
            file=stream,
            width=self.width,
            force_terminal=self.colour,
            no_color=not self.colour,
            color_system="standard" if self.colour else None,
            highlight=False,
            emoji=False,
            markup=False,
            legacy_windows=False,
        )
        console.print(*parts, sep="\n")
        return [line.rstrip() for line in stream.getvalue().strip("\n").splitlines()]

    def text(self, text: str) -> str:
        """``text`` with signs beyond ASCII where they can be shown."""
        return with_signs(text) if self.unicode else text


def summary(
    entries: Sequence[Entry], screen: Screen, settings: Settings, *, verbosity: int, accepts: bool
) -> list[str]:
    """The lines of the summary's body.

    Args:
        entries: the tests that measured something.
        screen: where the lines will stand.
        settings: the pyproject's; they say what to show and what to keep quiet about.
        verbosity: pytest's: below 0 no table, above 0 the modules too.
        accepts: whether this run wrote baselines.
    """
    lines: list[str] = []
    if not any(entry.verdicts for entry in entries):
        return [screen.text(line) for line in _closing(entries, settings, accepts=accepts)]
    if verbosity >= 0:
        lines += screen.lines(_table(entries, screen, settings.show))
    if verbosity > 0:
        for entry in entries:
            for verdict in entry.verdicts:
                lines += ["", *screen.lines(_modules(entry, verdict, screen, settings.show))]
    if verbosity >= 0:
        lines.append("")
    lines += [screen.text(line) for line in _closing(entries, settings, accepts=accepts)]
    return lines


def _table(entries: Iterable[Entry], screen: Screen, show: Shown) -> Table:
    heads = (METRICS[show].title, "change", "budget", "params", "verdict")
    rows = [(entry, verdict, _cells(verdict, show)) for entry in entries for verdict in entry.verdicts]
    widths = [max(len(head), *(len(cells[i]) for *_, cells in rows)) for i, head in enumerate(heads)]
    room = screen.room_beside(widths)
    table = _empty_table(screen)
    table.add_column("measurement", no_wrap=True, width=room)
    for head, width in zip(heads, widths, strict=True):
        table.add_column(head, justify="left" if head == "verdict" else "right", no_wrap=True, width=width)
    file = None
    for entry, verdict, cells in rows:
        own_file, test_id = split_nodeid(entry.nodeid)
        if own_file != file:
            file = own_file
            table.add_row(Text(_end_of(file, room, screen), style="bold"))
        first = f"  {_end_of(_label(entry, verdict, test_id), room - 2, screen)}"
        table.add_row(first, *cells[:-1], Text(cells[-1], style=_STYLES[verdict.outcome]))
    return table


def _label(entry: Entry, verdict: Verdict, test_id: str) -> str:
    return label(test_id, verdict.name, alone=len(entry.verdicts) == 1)


def _empty_table(screen: Screen) -> Table:
    return Table(
        box=box.SIMPLE_HEAD if screen.unicode else _ASCII_HEAD,
        pad_edge=False,
        # The box itself draws one space between columns.
        padding=(0, screen.gap - 1, 0, 0),
        show_edge=False,
        header_style="bold",
        safe_box=False,
    )


def _cells(verdict: Verdict, show: Shown) -> tuple[str, ...]:
    return (
        format_value(verdict.complexity.value(show), METRICS[show]),
        change(verdict.comparison),
        used(verdict.share),
        format_value(verdict.complexity.params, METRICS["params"]),
        verdict.outcome,
    )


def _end_of(text: str, room: int, screen: Screen) -> str:
    """``text``, its beginning cut off if it has to be: the end tells tests apart."""
    if len(text) <= room:
        return text
    mark = "\u2026" if screen.unicode else "..."
    return mark + text[len(text) - room + len(mark) :]


def _modules(entry: Entry, verdict: Verdict, screen: Screen, show: Shown) -> Table:
    table = _empty_table(screen)
    rows = [
        (path or "(model)", module)
        for path, module in fold(verdict.complexity.modules).items()
        if module.value(show) or module.params
    ]
    cells = [
        (module.type, _calls(path, module, screen), format_value(module.value(show), METRICS[show]), _params(module))
        for path, module in rows
    ]
    heads = ("class", "calls", METRICS[show].title, "params")
    widths = [max(len(head), *(len(row[i]) for row in cells)) for i, head in enumerate(heads)]
    widths[0] = min(widths[0], max(_LEAST_ROOM, screen.width // 4))
    room = screen.room_beside(widths)
    table.add_column(_end_of(_label(entry, verdict, entry.nodeid), room, screen), no_wrap=True, width=room)
    for head, width in zip(heads, widths, strict=True):
        justify: JustifyMethod = "left" if head == "class" else "right"
        table.add_column(head, justify=justify, no_wrap=True, width=width, overflow="crop")
    for (path, _), row in zip(rows, cells, strict=True):
        table.add_row(_end_of(path, room, screen), row[0][: widths[0]], *row[1:])
    return table


def _calls(path: str, module: Module, screen: Screen) -> str:
    """Calls, or "126x1" for a row that stands for 126 modules."""
    modules = len(unfold({path: module}))
    return screen.text(f"{modules}x{module.calls}") if modules > 1 else f"{module.calls:,}"


def _params(module: Module) -> str:
    return format_value(module.params, METRICS["params"])


def _closing(entries: Sequence[Entry], settings: Settings, *, accepts: bool) -> Iterator[str]:
    verdicts = [verdict for entry in entries for verdict in entry.verdicts]
    total = sum(verdict.complexity.flops for verdict in verdicts)
    seconds = sum(verdict.seconds for verdict in verdicts)
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    words = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in _STYLES if outcomes[outcome])
    if verdicts:
        yield (
            f"{counted(len(verdicts), 'measurement')}: {words}; {format_value(total, METRICS['flops'])} counted "
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
    improved = [entry.nodeid for entry in entries if any(v.outcome == "improved" for v in entry.verdicts)]
    if improved:
        yield f"{counted(len(improved), 'test')} improved; tighten the baseline: {_command(improved)}"
    new = [entry.nodeid for entry in entries if any(v.comparison.status == "new" for v in entry.verdicts)]
    if new and settings.missing_baseline != "ignore":
        yield f"{counted(len(new), 'test')} without a baseline; write it: {_command(new)}"


def _notes(entry: Entry, verdict: Verdict, settings: Settings) -> Iterator[str]:
    if verdict.complexity.execution == "real":
        yield f"{entry.nodeid}: ran on real data, as shapes do not tell its way; the count may hang on that data"
    for note in verdict.complexity.notes:
        yield f"{entry.nodeid}: {note}"
    if verdict.complexity.unknown_operators and settings.unknown_operators != "ignore":
        yield f"{entry.nodeid}: operators without a formula, missing from the count:"
        yield from unknown_operators(verdict.complexity)
    if verdict.comparison.inputs_changed and not verdict.fails:
        old, new = verdict.comparison.inputs_changed
        yield f"{entry.nodeid}: the input changed: {', '.join(old)} -> {', '.join(new)}"
    if verdict.comparison.vanished:
        yield f"{entry.nodeid}: in the baseline, but no longer measured: {', '.join(verdict.comparison.vanished)}"


def _command(nodeids: Sequence[str]) -> str:
    return update_command(nodeids[0] if len(nodeids) == 1 else None)
