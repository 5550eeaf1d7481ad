"""Escape text for GitHub's Markdown, and define the maximum sizes that GitHub accepts."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from pytest_flopsbudget.safe_text import use_signs, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


#: The maximum bytes of a comment on GitHub. GitHub allows 65,536 characters; the rest is for text around the report.
COMMENT = 65_000
#: The maximum bytes of the summary of a step.
STEP_SUMMARY = 1024 * 1024
#: The maximum characters of a line. The path of a module may be long.
LONGEST_LINE = 300


def folded(title: str, lines: Sequence[str]) -> Iterator[str]:
    """Yield lines of Markdown. GitHub hides ``lines`` until the user clicks on the title."""
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
    """Return ``text`` as code for a table cell. The text may contain any characters of Markdown or HTML."""
    text = visible(text)
    if text.strip() == text and not re.search(r"[`|\\]", text):
        return f"`{text}`"
    # Every character except letters, digits and blanks is written by its number, because Markdown may give it a
    # meaning.
    return f"<code>{re.sub(r'[^A-Za-z0-9 .:/]', _as_number, text)}</code>"


def _as_number(sign: re.Match[str]) -> str:
    return f"&#{ord(sign[0])};"


def size(text: str) -> int:
    """Return the number of bytes of ``text`` in UTF-8."""
    return len(text.encode("utf-8", "backslashreplace"))
