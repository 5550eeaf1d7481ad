"""Changes between two sets of measurements, for a terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from pytest_flopsbudget.quantities.formatting import format_percent, format_value
from pytest_flopsbudget.quantities.metrics import METRICS, metric_of
from pytest_flopsbudget.reports import cells
from pytest_flopsbudget.reports.growth import signature_changes, what_grew
from pytest_flopsbudget.reports.terminal.screen import end_of
from pytest_flopsbudget.reports.terminal.table import Column, ElasticColumn, build_table
from pytest_flopsbudget.reports.wording import format_change, pluralize, visible
from pytest_flopsbudget.results.changes import KINDS, differing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from pytest_flopsbudget.reports.terminal.screen import Screen
    from pytest_flopsbudget.results.changes import Change, ChangeKind, Key


_STYLES: dict[ChangeKind, str] = {"regressed": "red", "improved": "green", "changed": "yellow", "new": "cyan"}
#: The maximum number of rows for each kind of change. Further changes are counted.
_MAX_ROWS = 50

#: Marks a metric that a baseline does not hold by default. The compared files do not say what the tests chose.
NOT_HELD = "(not held)"

HEADS = ("FLOPs before", "FLOPs", "change", "params", "verdict")


def lines(found: Sequence[Change], screen: Screen) -> Iterator[str]:
    """Yield a table of the changes, then the changed modules of each measurement, then the number of changes."""
    differences = differing(found)
    if differences:
        yield from screen.lines(_table(differences, screen))
        yield ""
    for change in differences:
        details = list(detail_lines(change))
        if details:
            yield from screen.lines(Text(f"{label(change.key)}: {change.kind}", style="bold"))
            yield from (screen.text(f"    {visible(line)}") for line in details)
            yield ""
    note = not_held_note(found)
    if note:
        yield from (note, "")
    yield summarize(found)


def summarize(found: Sequence[Change]) -> str:
    """Count the changes of each kind: "3 measurements: 1 regressed, 2 unchanged"."""
    kinds = Counter(change.kind for change in found)
    words = ", ".join(f"{kinds[kind]:,} {kind}" for kind in KINDS if kinds[kind])
    return f"{pluralize(len(found), 'measurement')}: {words}" if found else "no measurements on either side"


def not_held_note(found: Sequence[Change]) -> str:
    """Explain the mark `NOT_HELD`; return "" if no change has it."""
    if not any(NOT_HELD in line for change in differing(found) for line in (*row(change), *detail_lines(change))):
        return ""
    return f"{NOT_HELD}: growth of this metric fails no test, unless hold in the pyproject.toml or in a marker names it"


def label(key: Key) -> str:
    """Return the test's node id, with the measurement's name if the test gave it one."""
    return visible(cells.label(key.nodeid, key.name, alone=True))


def row(change: Change) -> tuple[str, ...]:
    """Return the cells of a change's table row, without the first column. `HEADS` lists the other columns."""
    flops = METRICS["flops"]
    before, after = (
        "" if side is None else format_value(side.value("flops"), flops) if "flops" in side.metrics else "not measured"
        for side in (change.old, change.new)
    )
    return before, after, _flops_change(change), _percent(change, "params"), change.kind


def detail_lines(change: Change) -> Iterator[str]:
    """Yield a line for each module and operator that changed within a measurement."""
    if change.old_key is not None:
        yield f"was {label(change.old_key)}"
    comparison = change.comparison
    if comparison is None:
        return
    yield from signature_changes(comparison)
    if comparison.execution_changed:
        yield "ran {}, then {}".format(*(_RAN[execution] for execution in comparison.execution_changed))
    if comparison.backward_changed:
        yield "measured {} the backward pass, then {}".format(
            *("with" if backward else "without" for backward in comparison.backward_changed)
        )
    for metric in comparison.vanished:
        yield f"{metric} is no longer measured"
    told = {difference.metric for difference in change.diffs}
    for item in comparison.changes:
        if item.metric in told:
            mark = "" if _is_held(item.metric) else f" {NOT_HELD}"
            yield f"{item.metric}: {format_change(item.old, item.new, item.metric)}{mark}"
    yield from what_grew(change.diffs)


_RAN = {"shapes": "on shapes alone", "real": "on real data", "watched": "as the test ran it"}


def _table(differences: Sequence[Change], screen: Screen) -> Table:
    names, rows = [], []
    for kind in KINDS:
        of_kind = [change for change in differences if change.kind == kind]
        names += [label(change.key) for change in of_kind[:_MAX_ROWS]]
        rows += [row(change) for change in of_kind[:_MAX_ROWS]]
        if len(of_kind) > _MAX_ROWS:
            names.append(f"and {len(of_kind) - _MAX_ROWS:,} more")
            rows.append(("", "", "", "", kind))
    *amounts, kinds = zip(*rows, strict=True)
    columns = [Column(head, cells) for head, cells in zip(HEADS, amounts, strict=False)]
    columns.append(Column(HEADS[-1], [Text(kind, style=_STYLES.get(kind, "")) for kind in kinds], "left"))
    return build_table(ElasticColumn("measurement", names, end_of), columns, screen)


def _flops_change(change: Change) -> str:
    if change.comparison is None:
        return ""
    percent = _percent(change, "flops")
    others = {item.metric for item in change.comparison.changes} - {"flops", "params"}
    if not others or not percent == _percent(change, "params") == "=":
        return percent
    # The verdict of this row does not follow from the two shown columns.
    return "(other)" if any(map(_is_held, others)) else NOT_HELD


def _is_held(metric: str) -> bool:
    return not metric_of(metric).of_kernels


def _percent(change: Change, metric: str) -> str:
    if change.comparison is None:
        return ""
    found = [item for item in change.comparison.changes if item.metric == metric]
    return format_percent(found[0].old, found[0].new) if found else "="
