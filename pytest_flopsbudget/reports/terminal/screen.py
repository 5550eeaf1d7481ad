"""The width, the colours and the characters of a terminal."""

from __future__ import annotations

import io
import re
import textwrap
from typing import TYPE_CHECKING

from rich.console import Console

from pytest_flopsbudget.safe_text import can_show_signs, use_signs, visible

if TYPE_CHECKING:
    from rich.console import RenderableType


#: Matches a line that begins with "::", because a word that is longer than the line was cut there. GitHub Actions would
#: read such a line as a command.
_WORD_CUT = re.compile(r"^( *)::")
#: If the terminal is at least this wide, there is more space between columns.
_WIDE = 100
#: Sentences are not wrapped at fewer characters, because nearly every word would be on a line of its own.
_NARROW = 40


class Screen:
    """The width, the colours and the characters of a terminal."""

    def __init__(self, *, width: int, colour: bool, encoding: str | None) -> None:
        self.width = width
        self.colour = colour
        self.unicode = can_show_signs(encoding)
        #: Characters between two columns.
        self.gap = 1 if width < _WIDE else 2

    def lines(self, *parts: RenderableType) -> list[str]:
        """Lay out the parts, and return the lines."""
        stream = io.StringIO()
        console = Console(
            file=stream,
            width=self.width,
            force_terminal=self.colour,
            no_color=not self.colour,
            color_system="standard" if self.colour else None,
            highlight=False,
            emoji=False,
            markup=False,
            legacy_windows=False,
        )
        console.print(*parts, sep="\n")
        return [_WORD_CUT.sub(_marked, line.rstrip()) for line in stream.getvalue().strip("\n").splitlines()]

    def text(self, text: str) -> str:
        """Return ``text`` on one line, safe to show. Signs beyond ASCII are used if the terminal shows such signs."""
        text = visible(text)
        return use_signs(text) if self.unicode else text

    def safe(self, text: str) -> str:
        """Return ``text`` on one line, safe to show, and only with characters of the terminal's encoding."""
        text = visible(text)
        return use_signs(text) if self.unicode else text.encode("ascii", "backslashreplace").decode("ascii")


def _marked(found: re.Match[str]) -> str:
    """Put a backslash before the "::" at the beginning of a line. One blank is dropped to keep the line's width."""
    return f"{found[1][1:]}\\::"


def end_of(text: str, room: int, screen: Screen) -> str:
    """Shorten ``text`` at its beginning if it is too long. Node ids differ at their ends."""
    if len(text) <= room:
        return text
    mark = "\u2026" if screen.unicode else "..."
    return mark + text[len(text) - room + len(mark) :]


def start_of(text: str, room: int, screen: Screen) -> str:
    """Shorten ``text`` at its end if it is too long."""
    if len(text) <= room:
        return text
    mark = "\u2026" if screen.unicode else "..."
    return text[: max(0, room - len(mark))] + mark


def wrapped(line: str, width: int, *, hanging: int = 4) -> list[str]:
    """Return the line as lines of at most ``width`` characters. Only a single word may be longer.

    All lines but the first are indented by ``hanging`` more characters.
    """
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line,
        max(width, _NARROW),
        subsequent_indent=f"{indent}{' ' * hanging}",
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]
