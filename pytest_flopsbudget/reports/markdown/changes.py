"""Changes between two sets of measurements as Markdown, for a pull request."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from pytest_flopsbudget.reports.change_text import (
    HEADS,
    change_lines,
    group_notes,
    group_ranges,
    group_title,
    label,
    not_held_note,
    percent_table,
    row,
    summarize,
)
from pytest_flopsbudget.reports.markdown.markup import COMMENT, LONGEST_LINE, code, folded, size
from pytest_flopsbudget.results.change_groups import ChangeGroup, group_changes
from pytest_flopsbudget.results.changes import KINDS, differing
from pytest_flopsbudget.safe_text import use_signs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_flopsbudget.results.changes import Change, ChangeKind


_SIGNS: dict[ChangeKind, str] = {
    "regressed": "⬆️",
    "improved": "⬇️",
    "changed": "✏️",
    "new": "🆕",
    "removed": "🗑️",
    "renamed": "✏️",
}
#: The maximum shares of the available bytes that the list of causes and the table may take. The details get the rest.
_CAUSES_SHARE = 0.2
_TABLE_SHARE = 0.5
#: Bytes for the three lines on how much was left out.
_RESERVE = 600
#: The maximum number of measurements that the details of a cause list.
_MAX_ROWS = 50


def text(found: Sequence[Change], old: str, new: str, maximum: int = COMMENT, *, verbose: bool = False) -> str:
    """Return the changes as Markdown: what was edited, a table of the measurements, and the details of each cause.

    Args:
        found: the changes that `results.changes` found.
        old: the name of the old side.
        new: the name of the new side.
        maximum: the maximum number of bytes of the text. If this is too little, the last rows and details are left out,
            and a line states their number.
        verbose: whether the details describe each measurement in full, with its operators.
    """
    differences = differing(found)
    head = f"### Complexity: {code(old)} → {code(new)}\n\n{summarize(found)}.\n\n"
    note = not_held_note(found)
    if note:
        head += f"{note}.\n\n"
    if not differences:
        return head
    room = maximum - size(head) - _RESERVE
    groups = group_changes(differences)
    causes = _fitting(
        [group for group in groups if group_title(group)],
        _cause,
        int(room * _CAUSES_SHARE),
        "… and the causes of {}, left out to keep to GitHub's size",
    )
    causes += "\n" if causes else ""
    table_head = f"| | measurement | {' | '.join(HEADS)} |\n|---|---|{'---:|' * (len(HEADS) - 1)}---|\n"
    table = _fitting(
        [ChangeGroup((change,), None) for change in differences],
        _row,
        int(room * _TABLE_SHARE) - size(table_head),
        "… and {}, left out to keep to GitHub's size",
    )
    room -= size(causes) + size(table_head) + size(table)
    details = _fitting(
        [group for group in groups if any(_detail_lines(group, verbose=verbose))],
        partial(_details, verbose=verbose),
        room,
        "… and the details of {}, left out likewise",
    )
    return f"{head}{causes}{table_head}{table}\n{details}"


def _cause(group: ChangeGroup) -> str:
    ranges = f": {'; '.join(line.strip() for line in group_ranges(group))}" if group.cause is not None else ""
    where = "" if group.cause is not None else f" in {code(label(group.changes[0].key))}"
    return f"- **{code(use_signs(group_title(group))[:LONGEST_LINE])}**{where}{ranges}\n"


def _row(group: ChangeGroup) -> str:
    change = group.changes[0]
    cells = (_SIGNS.get(change.kind, ""), code(label(change.key)), *row(change))
    return f"| {' | '.join(cells)} |\n"


def _details(group: ChangeGroup, *, verbose: bool) -> str:
    change = group.changes[0]
    title = f"{label(change.key)}: {change.kind}" if group.cause is None else use_signs(group_title(group))
    return "".join(f"{line}\n" for line in folded(title, list(_detail_lines(group, verbose=verbose))))


def _detail_lines(group: ChangeGroup, *, verbose: bool) -> Iterator[str]:
    if group.cause is None:
        yield from change_lines(group.changes[0], verbose=verbose)
        return
    yield from percent_table(group.changes, _MAX_ROWS)
    yield from group_notes(group.changes)
    if verbose:
        for change in group.changes:
            yield from ("", f"{label(change.key)}: {change.kind}", *change_lines(change, verbose=True))


def _fitting(groups: Sequence[ChangeGroup], written: Callable[[ChangeGroup], str], room: int, rest: str) -> str:
    """Return the texts of the first groups, as many as fit into ``room`` bytes.

    The last line, made from the template ``rest``, gives the number of changes that were left out.
    """
    parts: list[str] = []
    for group in groups:
        part = written(group)
        room -= size(part)
        if room < 0:
            break
        parts.append(part)
    left_out = [change for group in groups[len(parts) :] for change in group.changes]
    if left_out:
        parts.append(f"\n{rest.format(_counted(left_out))}.\n")
    return "".join(parts)


def _counted(changes: Iterable[Change]) -> str:
    kinds = Counter(change.kind for change in changes)
    return ", ".join(f"{kinds[kind]:,} {kind}" for kind in KINDS if kinds[kind])
