"""Write a command's results to standard output, and its notes and errors to standard error."""

from __future__ import annotations

import os
import shutil
import sys
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flopsbudget.reports.terminal.screen import Screen


#: The number of characters per line if the output is no terminal.
_WIDTH = 120


class Output:
    """The two output streams of a command. Characters that a stream's encoding lacks are written as escapes."""

    def __init__(self, *, colour: bool | None = None) -> None:
        """Use the standard output and the standard error of this process.

        Args:
            colour: whether to write in colour. If it is None, the stream and the environment decide.
        """
        self._colour = colour

    @cached_property
    def screen(self) -> Screen:
        """The width, colours and characters of standard output."""
        from pytest_flopsbudget.reports.terminal.screen import Screen

        width = shutil.get_terminal_size((_WIDTH, 24)).columns
        colour = _wants_colour(sys.stdout) if self._colour is None else self._colour
        return Screen(width=width, colour=colour, encoding=sys.stdout.encoding)

    def lines(self, lines: Iterable[str]) -> None:
        """Write lines to standard output without changing their layout or colours."""
        for line in lines:
            _write(sys.stdout, line)

    def line(self, line: str = "") -> None:
        """Write a line to standard output. Unprintable characters in the line are escaped."""
        _write(sys.stdout, visible(line))

    def document(self, text: str) -> None:
        """Write ``text`` to standard output. If standard output is a file or a pipe, the text is in UTF-8."""
        buffer = getattr(sys.stdout, "buffer", None)
        if buffer is None or sys.stdout.isatty():
            self.lines(text.splitlines())
            return
        sys.stdout.flush()
        buffer.write(text.encode("utf-8", "backslashreplace"))
        buffer.flush()

    def error(self, line: str) -> None:
        """Write a note or an error to standard error. Unprintable characters in ``line`` are escaped."""
        _write(sys.stderr, visible(line))


def _write(stream: TextIO, line: str) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _wants_colour(stream: TextIO) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"
