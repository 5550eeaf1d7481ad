"""Mark what a reader should see first in the text of a failure: the sentence, the edited module and the growth."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_flopsbudget.reports.terminal.screen import wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_GROWTH = re.compile(r"(?<!\S)(?:\+[\d.]+%|x[\d.]+(?:e\+\d+)?[kMGTPE]?)(?!\S)")
_EDIT = re.compile(r"  (\S[^:]*)(: )")
#: The cells of a table have at least two spaces between them. Rows of tables are not wrapped.
_CELLS = re.compile(r"\S  ")


def emphasize(lines: Iterable[str], bold: Callable[[str], str], red: Callable[[str], str], width: int) -> Iterator[str]:
    """Yield the lines of a failure with marks. The lines of edits are wrapped.

    Args:
        lines: the text that `failure.explain` made. An empty line separates measurements.
        bold: returns a text in bold.
        red: returns a text in red.
        width: the maximum number of characters in the line of an edit.
    """
    is_first = True
    for line in lines:
        edit = _EDIT.match(line)
        if is_first:
            yield bold(line)
        elif edit is not None and _CELLS.search(line) is None:
            first, *rest = wrapped(line, width)
            yield f"  {bold(first[2 : edit.end(1)])}{first[edit.end(1) :]}"
            yield from rest
        else:
            yield _GROWTH.sub(lambda found: red(found[0]), line)
        is_first = not line
