"""Changes between two sets of measurements, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.color import ColorSystem
from rich.style import Style
from rich.text import Text

from pytest_flopsbudget.reports.change_text import (
    HEADS,
    change_lines,
    group_notes,
    group_ranges,
    group_title,
    label,
    not_held_note,
    row,
    summarize,
)
from pytest_flopsbudget.reports.terminal.emphasis import emphasize
from pytest_flopsbudget.reports.terminal.screen import end_of
from pytest_flopsbudget.reports.terminal.table import Column, ElasticColumn, build_table
from pytest_flopsbudget.results.change_groups import group_changes
from pytest_flopsbudget.results.changes import KINDS, differing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.table import Table

    from pytest_flopsbudget.reports.terminal.screen import Screen
    from pytest_flopsbudget.results.change_groups import ChangeGroup
    from pytest_flopsbudget.results.changes import Change, ChangeKind


_STYLES: dict[ChangeKind, str] = {"regressed": "red", "improved": "green", "changed": "yellow", "new": "cyan"}
#: The maximum number of rows for each kind of change. Further changes are counted.
_MAX_ROWS = 50
#: The maximum number of these rows below a cause, unless the user asks for everything. The cause names the ranges.
_MAX_CAUSE_ROWS = 10


def lines(found: Sequence[Change], screen: Screen, *, verbose: bool = False) -> Iterator[str]:
    """Yield each cause with its measurements, then a table of the other differences, then the number of changes.

    Args:
        found: the changes that `results.changes` found.
        screen: the terminal that will show the lines.
        verbose: whether each measurement is shown in full, with its operators.
    """
    differences = differing(found)
    described = [change for change in differences if _has_lines(change)]
    for group in group_changes(described):
        if group.cause is not None:
            yield from _emphasized([group_title(group), *group_ranges(group)], screen)
            yield from screen.lines(_table(group.changes, screen, _MAX_ROWS if verbose else _MAX_CAUSE_ROWS))
            yield from (screen.text(line) for line in group_notes(group.changes))
            yield ""
        if group.cause is None or verbose:
            yield from _blocks(group, screen, verbose=verbose)
    others = [change for change in differences if not _has_lines(change)]
    if others:
        yield from screen.lines(_table(others, screen, _MAX_ROWS))
        yield from (screen.text(line) for line in group_notes(others))
        yield ""
    note = not_held_note(found)
    if note:
        yield from (note, "")
    yield summarize(found)


def _has_lines(change: Change) -> bool:
    """Return whether there is more to show than that the measurement is new, removed or renamed."""
    return change.comparison is not None and change.kind != "renamed"


def _blocks(group: ChangeGroup, screen: Screen, *, verbose: bool) -> Iterator[str]:
    for change in group.changes:
        text = [f"{label(change.key)}: {change.kind}", *change_lines(change, verbose=verbose)]
        yield from _emphasized(text, screen)
        yield ""


def _emphasized(text: Iterable[str], screen: Screen) -> Iterator[str]:
    return emphasize(map(screen.text, text), _painter("bold", screen), _painter("red", screen), screen.width)


def _painter(style: str, screen: Screen) -> Callable[[str], str]:
    if not screen.colour:
        return str
    painted = Style.parse(style)
    return lambda text: painted.render(text, color_system=ColorSystem.STANDARD)


def _table(differences: Sequence[Change], screen: Screen, maximum: int) -> Table:
    names, rows = [], []
    for kind in KINDS:
        of_kind = [change for change in differences if change.kind == kind]
        names += [label(change.key) for change in of_kind[:maximum]]
        rows += [row(change) for change in of_kind[:maximum]]
        if len(of_kind) > maximum:
            names.append(f"and {len(of_kind) - maximum:,} more")
            rows.append(("", "", "", "", kind))
    *amounts, kinds = zip(*rows, strict=True)
    columns = [Column(head, cells) for head, cells in zip(HEADS, amounts, strict=False)]
    columns.append(Column(HEADS[-1], [Text(kind, style=_STYLES.get(kind, "")) for kind in kinds], "left"))
    return build_table(ElasticColumn("measurement", names, end_of), columns, screen)
