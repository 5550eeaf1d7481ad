"""Write a tree with columns as HTML, for notebooks."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from pytest_flopsbudget.safe_text import use_signs, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_flopsbudget.results.table_text import TreeTable

#: Colours come from the page, so that the table fits a light and a dark page. There is no style sheet, because its
#: rules would apply to the whole notebook.
_TABLE = "border-collapse:collapse;color:inherit;font-variant-numeric:tabular-nums"
_CAPTION = "caption-side:top;text-align:left;padding:0.3em 0.6em 0.3em 0;font-weight:bold"
_LINE = "border-bottom:1px solid currentColor"


def to_html(table: TreeTable) -> str:
    """Return a ``<table>`` with a caption, and paragraphs below it, without scripts. All names are escaped."""
    return f'<div style="overflow-x:auto">{"".join(_parts(table))}</div>'


def _parts(table: TreeTable) -> Iterator[str]:
    yield f'<table style="{_TABLE}"><caption style="{_CAPTION}">{_text(table.title)}</caption><thead><tr>'
    sides = ["left", *("left" if column.is_text else "right" for column in table.columns)]
    heads = [table.head, *(column.head for column in table.columns)]
    for head, side in zip(heads, sides, strict=True):
        yield f'<th scope="col" style="{_cell(side)};{_LINE}">{_text(head)}</th>'
    yield "</tr></thead><tbody>"
    for index, branch in enumerate(table.branches):
        indent = f"{_cell('left')};padding-left:{1.2 * len(branch.lasts):g}em;font-weight:normal"
        yield f'<tr><th scope="row" style="{indent}">{_text(branch.name)}</th>'
        for column, side in zip(table.columns, sides[1:], strict=True):
            yield f'<td style="{_cell(side)}">{_text(column.cells[index], signs=column.has_signs)}</td>'
        yield "</tr>"
    yield "</tbody></table>"
    yield from _totals(table.totals)
    for remark in table.remarks:
        yield f"<p>{_text(remark)}</p>"


def _totals(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    words = ", ".join(f"{_text(name)} {_text(value, signs=True)}" for name, value in pairs)
    if words:
        yield f"<p>{words}</p>"


def _cell(side: str) -> str:
    return f"text-align:{side};padding:0.1em 0.6em 0.1em 0;white-space:nowrap"


def _text(text: str, *, signs: bool = False) -> str:
    text = visible(text)
    return html.escape(use_signs(text) if signs else text)
