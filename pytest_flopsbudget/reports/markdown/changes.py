"""Changes between two sets of measurements as Markdown, for a pull request."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_flopsbudget.reports.markdown.markup import COMMENT, code, folded, size
from pytest_flopsbudget.reports.terminal.changes import HEADS, detail_lines, label, not_held_note, row, summarize
from pytest_flopsbudget.results.changes import KINDS, differing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_flopsbudget.results.changes import Change, ChangeKind


_SIGNS: dict[ChangeKind, str] = {
    "regressed": "⬆️",
    "improved": "⬇️",
    "changed": "✏️",
    "new": "🆕",
    "removed": "🗑️",
    "renamed": "✏️",
}
#: The maximum share of the available bytes that the table may take. The details get the other bytes.
_TABLE_SHARE = 0.6
#: Bytes for the two lines on how much was left out.
_RESERVE = 400


def text(found: Sequence[Change], old: str, new: str, maximum: int = COMMENT) -> str:
    """Return the changes as Markdown.

    Args:
        found: the changes that `results.changes` found.
        old: the name of the old side.
        new: the name of the new side.
        maximum: the maximum number of bytes of the text. If this is too little, the last rows and details are left out,
            and a line states their number.
    """
    differences = differing(found)
    head = f"### Complexity: {code(old)} → {code(new)}\n\n{summarize(found)}.\n\n"
    note = not_held_note(found)
    if note:
        head += f"{note}.\n\n"
    if not differences:
        return head
    room = maximum - size(head) - _RESERVE
    table_head = f"| | measurement | {' | '.join(HEADS)} |\n|---|---|{'---:|' * (len(HEADS) - 1)}---|\n"
    table = _fitting(
        differences, _row, int(room * _TABLE_SHARE) - size(table_head), "… and {}, left out to keep to GitHub's size"
    )
    detailed = [change for change in differences if any(detail_lines(change))]
    details = _fitting(
        detailed, _details, room - size(table_head) - size(table), "… and the details of {}, left out likewise"
    )
    return f"{head}{table_head}{table}\n{details}"


def _row(change: Change) -> str:
    cells = (_SIGNS.get(change.kind, ""), code(label(change.key)), *row(change))
    return f"| {' | '.join(cells)} |\n"


def _details(change: Change) -> str:
    return "".join(f"{line}\n" for line in folded(f"{label(change.key)}: {change.kind}", list(detail_lines(change))))


def _fitting(changes: Sequence[Change], written: Callable[[Change], str], room: int, rest: str) -> str:
    """Return the texts of the first changes, as many as fit into ``room`` bytes.

    The last line, made from the template ``rest``, gives the number of changes that were left out.
    """
    parts: list[str] = []
    for change in changes:
        part = written(change)
        room -= size(part)
        if room < 0:
            break
        parts.append(part)
    left_out = changes[len(parts) :]
    if left_out:
        parts.append(f"\n{rest.format(_counted(left_out))}.\n")
    return "".join(parts)


def _counted(changes: Iterable[Change]) -> str:
    kinds = Counter(change.kind for change in changes)
    return ", ".join(f"{kinds[kind]:,} {kind}" for kind in KINDS if kinds[kind])
