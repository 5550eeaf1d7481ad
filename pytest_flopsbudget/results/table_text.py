"""Lay out a tree with columns as lines of text."""

from __future__ import annotations

import shutil
import sys
import textwrap
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pytest_flopsbudget.safe_text import can_show_signs, use_signs, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


#: Blanks between two columns.
_GAP = "  "
#: The column of names and the column of classes are not cut below these widths while other columns can be left out.
_MIN_NAME = 22
_MIN_ELASTIC = 12
#: The smallest width that is kept for a name when nothing more can be left out.
_MIN_ROOM = 8
#: The width of a printed table if there is no terminal, and its minimum.
_PRINTED = 120
_MIN_PRINTED = 40


class Column(NamedTuple):
    """A column beside the tree. All columns have one cell for each row of the tree."""

    head: str
    cells: Sequence[str]
    is_text: bool = False
    #: Whether "x" and "->" in the cells are signs. In names they are letters, which stay as they are.
    has_signs: bool = False
    #: Columns with the highest number are left out first, together, if the table is too wide. A column with 0 stays.
    drop_order: int = 0


class Branch(NamedTuple):
    """The place of a row in the tree."""

    name: str
    #: For the row and each row above it but the root, outermost first: whether it is the last child of its parent.
    lasts: tuple[bool, ...] = ()


@dataclass(frozen=True)
class TreeTable:
    """A tree with columns, and lines of text below it. Names in it may contain any characters."""

    title: str
    head: str
    branches: Sequence[Branch]
    columns: Sequence[Column]
    #: Pairs of a name and a value, below the table.
    totals: Sequence[tuple[str, str]] = field(default=())
    #: Sentences below the table.
    remarks: Sequence[str] = field(default=())


def lay_out(table: TreeTable, width: int | None, *, signs: bool) -> list[str]:
    """Return the lines of a table.

    Args:
        table: the table.
        width: the maximum width of a line, in characters; None for no maximum. Where the table is wider, names are
            shortened in the middle, and columns are left out.
        signs: whether to use signs beyond ASCII.
    """
    kept = [
        column._replace(
            head=visible(column.head), cells=[_safe(cell, signs and column.has_signs) for cell in column.cells]
        )
        for column in table.columns
    ]
    names = [_Name(_guide(branch.lasts, signs), visible(branch.name)) for branch in table.branches]
    natural = max(len(table.head), *(name.width for name in names))
    rooms = _rooms(natural, kept, width)
    while rooms is None:
        last = max(column.drop_order for column in kept)
        kept = [column for column in kept if column.drop_order < last]
        rooms = _rooms(natural, kept, width)
    lines = [
        _line([table.head, *(column.head for column in kept)], rooms, kept, signs),
        ("\u2500" if signs else "-") * (sum(rooms) + len(_GAP) * len(kept)),
    ]
    for index, name in enumerate(names):
        cells = [name.cut(rooms[0], signs), *(column.cells[index] for column in kept)]
        lines.append(_line(cells, rooms, kept, signs))
    lines[:0] = _wrapped(table.title, width, signs)
    if table.totals:
        lines += ["", *_pairs(table.totals, width, signs)]
    if table.remarks:
        lines += ["", *(line for remark in table.remarks for line in _wrapped(remark, width, signs))]
    return lines


def printed_width() -> int:
    """Return the width of the terminal; 120 if there is none, and at least 40."""
    return max(_MIN_PRINTED, shutil.get_terminal_size((_PRINTED, 0)).columns)


def can_print_signs() -> bool:
    """Return whether standard output can show the signs of a table. If its encoding is unknown, return True."""
    return can_show_signs(getattr(sys.stdout, "encoding", None) or "utf-8")


def shorten(text: str, room: int, *, signs: bool) -> str:
    """Shorten a text in its middle to at most ``room`` columns. The ends of a path tell most about it."""
    if text_width(text) <= room:
        return text
    mark = "\u2026" if signs else "..."
    left = max(0, room - len(mark))
    return _start(text, left // 2) + mark + _start(text[::-1], left - left // 2)[::-1]


def text_width(text: str) -> int:
    """Return the number of columns that a terminal needs for a text. A Chinese character needs two."""
    if text.isascii():
        return len(text)
    return sum(_sign_width(sign) for sign in text)


def _sign_width(sign: str) -> int:
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def _start(text: str, room: int) -> str:
    taken = 0
    for index, sign in enumerate(text):
        taken += _sign_width(sign)
        if taken > room:
            return text[:index]
    return text


class _Name(NamedTuple):
    guide: str
    name: str

    @property
    def width(self) -> int:
        return len(self.guide) + text_width(self.name)

    def cut(self, room: int, signs: bool) -> str:
        # In a very deep tree, the guide is cut too, at its beginning.
        guide = self.guide[max(0, len(self.guide) - max(0, room - min(_MIN_ROOM, text_width(self.name)))) :]
        return guide + shorten(self.name, room - len(guide), signs=signs)


def _guide(lasts: Sequence[bool], signs: bool) -> str:
    """Return the lines that connect a row with its parent."""
    if not lasts:
        return ""
    if not signs:
        return "  " * len(lasts)
    return "".join("   " if last else "\u2502  " for last in lasts[:-1]) + (
        "\u2514\u2500 " if lasts[-1] else "\u251c\u2500 "
    )


def _rooms(natural: int, columns: Sequence[Column], width: int | None) -> list[int] | None:
    """Return the widths of the tree and of the columns; None if a column has to be left out."""
    widths = [max(map(text_width, (column.head, *column.cells))) for column in columns]
    over = 0 if width is None else natural + sum(widths) + len(_GAP) * len(widths) - width
    droppable = any(column.drop_order for column in columns)
    for index, column in enumerate(columns):
        if column.is_text and over > 0:
            taken = min(over, max(0, widths[index] - _MIN_ELASTIC))
            widths[index] -= taken
            over -= taken
    taken = min(over, max(0, natural - (_MIN_NAME if droppable else _MIN_ROOM)))
    natural -= max(0, taken)
    return None if over > taken and droppable else [natural, *widths]


def _line(cells: Sequence[str], rooms: Sequence[int], columns: Sequence[Column], signs: bool) -> str:
    parts = [_padded(cells[0], rooms[0])]
    for cell, room, column in zip(cells[1:], rooms[1:], columns, strict=True):
        parts.append(
            _padded(shorten(cell, room, signs=signs), room)
            if column.is_text
            else " " * (room - text_width(cell)) + cell
        )
    return _GAP.join(parts).rstrip()


def _padded(text: str, room: int) -> str:
    return text + " " * (room - text_width(text))


def _pairs(pairs: Sequence[tuple[str, str]], width: int | None, signs: bool) -> Iterable[str]:
    """Yield lines with two pairs each, or with one pair each if the lines would be too wide."""
    cells = [(visible(name), _safe(value, signs)) for name, value in pairs]
    names, values = (max(map(text_width, column)) for column in zip(*cells, strict=True))
    beside = 2 * (names + values) + 5 * len(_GAP)
    rows = -(-len(cells) // 2) if width is None or beside <= width else len(cells)
    for index in range(rows):
        row = cells[index::rows]
        texts = [f"{_padded(name, names)}{_GAP}{_padded(value, values)}" for name, value in row]
        yield (_GAP * 3).join(texts).rstrip()


def _wrapped(text: str, width: int | None, signs: bool) -> list[str]:
    safe = visible(text)
    if width is None:
        return [safe]
    # A long word is shortened and not cut into lines: a line that begins with "::" may be a command for a CI system.
    room = max(_MIN_ROOM, width - len(_GAP))
    words = " ".join(shorten(word, room, signs=signs) for word in safe.split(" "))
    return textwrap.wrap(
        words, max(_MIN_ROOM, width), subsequent_indent=_GAP, break_long_words=False, break_on_hyphens=False
    )


def _safe(text: str, signs: bool) -> str:
    text = visible(text)
    return use_signs(text) if signs else text
