"""Escape text for GitHub's Markdown, and hold the sizes that GitHub accepts."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from pytest_flopsbudget.reports.wording import use_signs, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


#: Maximum bytes of a comment on GitHub, with a reserve for text around the report. GitHub allows 65,536 characters.
COMMENT = 65_000
#: Maximum bytes of the summary of a step.
STEP_SUMMARY = 1024 * 1024
#: Maximum characters of a line; a module's path may be long.
LONGEST_LINE = 300


def folded(title: str, lines: Sequence[str]) -> Iterator[str]:
    """Return lines that GitHub shows only after a click on the title."""
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
    """Return ``text`` as code that is safe in a table cell, whatever Markdown or HTML characters it contains."""
    text = visible(text)
    if text.strip() == text and not re.search(r"[`|\\]", text):
        return f"`{text}`"
    # Every character except letters, digits and blanks is written by its number, since Markdown may give it a meaning.
    return f"<code>{re.sub(r'[^A-Za-z0-9 .:/]', _as_number, text)}</code>"


def _as_number(sign: re.Match[str]) -> str:
    return f"&#{ord(sign[0])};"


def size(text: str) -> int:
    """Return the number of bytes of ``text`` in a file."""
    return len(text.encode("utf-8", "backslashreplace"))
