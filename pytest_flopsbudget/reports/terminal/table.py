"""Tables in which one elastic column takes the width that the other columns leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import JustifyMethod, OverflowMethod

    from pytest_flopsbudget.reports.terminal.screen import Screen


#: The line under the head of a table, in a character that every terminal can show.
_ASCII_HEAD = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)

#: The minimum width of the elastic column, in characters.
MIN_ROOM = 12


class Column(NamedTuple):
    """A column that is as wide as its widest cell."""

    head: str
    cells: Sequence[str | Text]
    justify: JustifyMethod = "right"
    #: How rich shortens a cell if the terminal is too narrow for the table.
    overflow: OverflowMethod = "ellipsis"
    #: The order in which `drop_columns` drops columns. The column with the highest number is dropped first.
    drop_order: int = 0

    @property
    def width(self) -> int:
        """The width of the widest cell, in characters."""
        return max(map(len, (self.head, *self.cells)))


@dataclass(frozen=True)
class ElasticColumn:
    """The column that takes the width which the other columns leave. Its cells are cut to that width."""

    head: str
    cells: Sequence[str | Text]
    #: The function that shortens a cell.
    cut: Callable[[str, int, Screen], str]
    overflow: OverflowMethod = "ellipsis"
    #: Whether the column is not wider than its widest cell. The numbers are then close to the names.
    shrinks: bool = False
    #: Whether the column is the last one. If not, it is the first one.
    is_last: bool = False

    def cut_cell(self, cell: str | Text, room: int, screen: Screen) -> str | Text:
        """Return the cell, cut to ``room`` characters."""
        if isinstance(cell, Text):
            return Text(self.cut(cell.plain, room, screen), style=cell.style)
        return self.cut(cell, room, screen)


def room_beside(columns: Iterable[Column], screen: Screen) -> int:
    """Return the number of characters that ``columns`` leave for the elastic column, but at least `MIN_ROOM`."""
    widths = [column.width for column in columns]
    return max(MIN_ROOM, screen.width - sum(widths) - screen.gap * len(widths))


def drop_columns(columns: Sequence[Column], room: int, screen: Screen) -> list[Column]:
    """Drop columns until there are ``room`` characters for the elastic column. At least one column is kept."""
    kept = list(columns)
    while len(kept) > 1 and room_beside(kept, screen) < room:
        kept.remove(max(kept, key=lambda column: column.drop_order))
    return kept


def build_table(elastic: ElasticColumn, columns: Sequence[Column], screen: Screen) -> Table:
    """Return a table of one elastic column and ``columns``, laid out for ``screen``."""
    # Cells name tests, modules and devices. Cells are escaped before their width is computed.
    columns = [column._replace(head=visible(column.head), cells=_safe(column.cells)) for column in columns]
    elastic_head, elastic_cells = visible(elastic.head), _safe(elastic.cells)
    room = room_beside(columns, screen)
    if elastic.shrinks:
        room = min(room, max(map(len, (elastic_head, *elastic_cells))))
    first = Column(
        elastic.cut(elastic_head, room, screen),
        [elastic.cut_cell(cell, room, screen) for cell in elastic_cells],
        "left",
        elastic.overflow,
    )
    laid_out = [(column, column.width) for column in columns]
    laid_out.insert(len(columns) if elastic.is_last else 0, (first, room))
    table = empty_table(screen)
    for column, width in laid_out:
        table.add_column(column.head, justify=column.justify, no_wrap=True, width=width, overflow=column.overflow)
    for cells in zip(*(column.cells for column, _ in laid_out), strict=True):
        table.add_row(*cells)
    return table


def _safe(cells: Iterable[str | Text]) -> list[str | Text]:
    return [Text(visible(cell.plain), style=cell.style) if isinstance(cell, Text) else visible(cell) for cell in cells]


def empty_table(screen: Screen) -> Table:
    """Return a table without rows and columns, in the style of all tables."""
    return Table(
        box=box.SIMPLE_HEAD if screen.unicode else _ASCII_HEAD,
        pad_edge=False,
        # rich itself draws one space between columns.
        padding=(0, screen.gap - 1, 0, 0),
        show_edge=False,
        header_style="bold",
        safe_box=False,
    )
