"""Format the results of the comparison as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.counters import COUNTERS
from peers.table import markdown

if TYPE_CHECKING:
    from collections.abc import Mapping


def verdicts(first: str, results: Mapping[str, Mapping[str, str]]) -> str:
    """Return a Markdown table with a row for each case and a column for each counter.

    ``first`` is the head of the first column.
    """
    return markdown(
        [first, *COUNTERS], [[case, *(cells[name] for name in COUNTERS)] for case, cells in results.items()]
    )
