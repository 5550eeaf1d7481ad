"""The terminal summary: a row a measurement, what changed, what to do next."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_flopsbudget.reports.failure import unknown_operators
from pytest_flopsbudget.reports.text import counted, update_command, with_signs
from pytest_flopsbudget.results.baseline import split_nodeid
from pytest_flopsbudget.results.fold import fold
from pytest_flopsbudget.results.metrics import METRICS
from pytest_flopsbudget.units import format_percent, format_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from pytest_flopsbudget.ledger import Entry
    from pytest_flopsbudget.results.verdict import Outcome, Verdict
    from pytest_flopsbudget.settings import Shown

_STYLES: dict[Outcome, str] = {
    "over limit": "red",
    "regressed": "red",
    "unknown operators": "yellow",
    "improved": "green",
    "new": "cyan",
    "ok": "",
}

#: A line under the head, drawn with what every terminal has.
_ASCII_HEAD = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)

_MOST_COMMANDS = 3


class Screen:
    """What the terminal can show."""

    def __init__(self, *, width: int, colour: bool, encoding: str | None) -> None:
        self.width = width
        self.colour = colour
        self.unicode = _can_show(encoding)

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
        return [line.rstrip() for line in stream.getvalue().splitlines()]

    def text(self, text: str) -> str:
        """``text`` with signs beyond ASCII where they can be shown."""
        return with_signs(text) if self.unicode else text


def _can_show(encoding: str | None) -> bool:
    try:
        "\u2192\u00d7\u2026\u2500".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def summary(entries: Sequence[Entry], screen: Screen, show: Shown, *, verbosity: int, accepts: bool) -> list[str]:
    """The lines of the summary's body.

    Args:
        entries: the tests that measured something.
        screen: where the lines will stand.
        show: the unit of work in the table.
        verbosity: pytest's: below 0 no table, above 0 the modules too.
        accepts: whether this run wrote baselines.
    """
    lines: list[str] = []
    if verbosity >= 0:
        lines += screen.lines(_table(entries, screen, show))
    if verbosity > 0:
        for entry in entries:
            for verdict in entry.verdicts:
                lines += ["", *screen.lines(_modules(entry, verdict, screen, show))]
    if verbosity >= 0:
        lines.append("")
    lines += [screen.text(line) for line in _closing(entries, accepts=accepts)]
    return lines


def _table(entries: Iterable[Entry], screen: Screen, show: Shown) -> Table:
    table = _empty_table(screen)
    table.add_column("measurement", ratio=1, no_wrap=True, overflow="crop")
    for head in (METRICS[show].title, "change", "budget", "params"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    file = None
    room = max(12, screen.width - 58)
    for entry in entries:
        own_file, test_id = split_nodeid(entry.nodeid)
        if own_file != file:
            file = own_file
            table.add_row(Text(_end_of(file, room, screen), style="bold"))
        for verdict in entry.verdicts:
            table.add_row(*_row(entry, verdict, test_id, room, screen, show))
    return table


def _empty_table(screen: Screen) -> Table:
    return Table(
        box=box.SIMPLE_HEAD if screen.unicode else _ASCII_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        expand=True,
        show_edge=False,
        header_style="bold",
        safe_box=False,
    )


def _row(
    entry: Entry, verdict: Verdict, test_id: str, room: int, screen: Screen, show: Shown
) -> Iterator[RenderableType]:
    complexity = verdict.complexity
    label = test_id if len(entry.verdicts) == 1 and verdict.name == "model" else f"{test_id} {verdict.name}"
    yield f"  {_end_of(label, room - 2, screen)}"
    yield format_value(complexity.value(show), METRICS[show])
    yield _change(verdict)
    yield "" if verdict.share is None else _share(verdict)
    yield format_value(complexity.params, METRICS["params"])
    yield Text(verdict.outcome, style=_STYLES[verdict.outcome])


def _change(verdict: Verdict) -> str:
    comparison = verdict.comparison
    if comparison.status == "new":
        return "new"
    work = [change for change in comparison.changes if change.metric == "flops"]
    if work:
        return format_percent(work[0].old, work[0].new)
    if comparison.changes:
        return "(other)"
    return "="


def _share(verdict: Verdict) -> str:
    share = verdict.share
    if share is None:
        return ""
    # Cut, not rounded: 100% is shown for what uses the limit up to the last operation, and more only beyond it.
    thousandths = share.measured * 1000 // share.limit if share.limit else 1000
    if share.measured > share.limit and thousandths <= 1000:  # noqa: PLR2004 -- a full budget
        return ">100%"
    return f"{thousandths // 10}.{thousandths % 10}%" if thousandths != 1000 else "100%"  # noqa: PLR2004


def _end_of(text: str, room: int, screen: Screen) -> str:
    """``text``, its beginning cut off if it has to be: the end tells tests apart."""
    if len(text) <= room:
        return text
    mark = "\u2026" if screen.unicode else "..."
    return mark + text[len(text) - room + len(mark) :]


def _modules(entry: Entry, verdict: Verdict, screen: Screen, show: Shown) -> Table:
    table = _empty_table(screen)
    name = "" if len(entry.verdicts) == 1 and verdict.name == "model" else f" {verdict.name}"
    room = max(20, screen.width - 62)
    table.add_column(_end_of(entry.nodeid + name, room, screen), ratio=1, no_wrap=True, overflow="crop")
    table.add_column("class", no_wrap=True, overflow="crop", max_width=24)
    table.add_column("calls", justify="right", no_wrap=True)
    for head in (METRICS[show].title, "params"):
        table.add_column(head, justify="right", no_wrap=True)
    for path, module in fold(verdict.complexity.modules).items():
        if module.value(show) or module.params:
            table.add_row(
                _end_of(path or "(model)", room, screen),
                module.type,
                f"{module.calls:,}",
                format_value(module.value(show), METRICS[show]),
                format_value(module.params, METRICS["params"]),
            )
    return table


def _closing(entries: Sequence[Entry], *, accepts: bool) -> Iterator[str]:
    verdicts = [verdict for entry in entries for verdict in entry.verdicts]
    total = sum(verdict.complexity.flops for verdict in verdicts)
    seconds = sum(verdict.seconds for verdict in verdicts)
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    words = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in _STYLES if outcomes[outcome])
    yield (
        f"{counted(len(verdicts), 'measurement')}: {words}; {format_value(total, METRICS['flops'])} counted "
        f"in {seconds:.2f} s"
    )
    for entry in entries:
        for verdict in entry.verdicts:
            yield from _notes(entry, verdict)
    if accepts:
        return
    improved = [entry.nodeid for entry in entries if any(v.outcome == "improved" for v in entry.verdicts)]
    if improved:
        yield f"{counted(len(improved), 'test')} improved; tighten the baseline: {_command(improved)}"
    new = [entry.nodeid for entry in entries if any(v.comparison.status == "new" for v in entry.verdicts)]
    if new:
        yield f"{counted(len(new), 'test')} without a baseline; write it: {_command(new)}"


def _notes(entry: Entry, verdict: Verdict) -> Iterator[str]:
    if verdict.complexity.execution == "real":
        yield f"{entry.nodeid}: ran on real data, since shapes alone do not tell its way; the count may hang on that data"
    if verdict.complexity.unknown_operators:
        yield f"{entry.nodeid}: operators without a formula, missing from the count:"
        yield from unknown_operators(verdict.complexity)
    if verdict.comparison.inputs_changed and not verdict.fails:
        old, new = verdict.comparison.inputs_changed
        yield f"{entry.nodeid}: the input changed: {', '.join(old)} -> {', '.join(new)}"
    if verdict.comparison.vanished:
        yield f"{entry.nodeid}: in the baseline, but no longer measured: {', '.join(verdict.comparison.vanished)}"


def _command(nodeids: Sequence[str]) -> str:
    return update_command(nodeids[0] if len(nodeids) == 1 else None)
