"""Escape text for GitHub's Markdown; the sizes that GitHub accepts."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from pytest_flopsbudget.reports.wording import use_signs, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


#: The bytes for a comment on GitHub, less a reserve for text around the report. GitHub allows 65,536 characters.
COMMENT = 65_000
#: Bytes that the summary of a step may have.
STEP_SUMMARY = 1024 * 1024
#: Characters of a line; a module's path may be long.
LONGEST_LINE = 300


def folded(title: str, lines: Sequence[str]) -> Iterator[str]:
    """Lines that are shown once the title is clicked on."""
    shown = [visible(use_signs(line))[:LONGEST_LINE] for line in lines]
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", "\n".join(shown))), default=0))
    yield f"<details><summary><code>{html.escape(visible(title))}</code></summary>"
    yield ""
    yield f"{fence}text"
    yield from shown
    yield fence
    yield ""
    yield "</details>"
    yield ""


def code(text: str) -> str:
    """``text`` as code, in a table's cell too, whatever signs of Markdown or HTML are in it."""
    text = visible(text)
    if text.strip() == text and not re.search(r"[`|\\]", text):
        return f"`{text}`"
    # Every character but letters, digits and blanks is written by its number, since it may mean something in Markdown.
    return f"<code>{re.sub(r'[^A-Za-z0-9 .:/]', _as_number, text)}</code>"


def _as_number(sign: re.Match[str]) -> str:
    return f"&#{ord(sign[0])};"


def size(text: str) -> int:
    """Bytes of ``text`` in a file."""
    return len(text.encode("utf-8", "backslashreplace"))
