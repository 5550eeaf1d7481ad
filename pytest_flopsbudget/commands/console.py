"""Where a command writes: results to standard output, notes and errors to standard error."""

from __future__ import annotations

import os
import shutil
import sys
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

from pytest_flopsbudget.reports.wording import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flopsbudget.reports.terminal.screen import Screen


#: Characters a line where there is no terminal to ask.
_WIDTH = 120


class Output:
    """The two streams of a command. Text that a stream's encoding lacks is written as its number."""

    def __init__(self, *, colour: bool | None = None) -> None:
        """Write to the streams of this process.

        Args:
            colour: whether to write in colour; None leaves it to the stream and the environment.
        """
        self._colour = colour

    @cached_property
    def screen(self) -> Screen:
        """What standard output can show."""
        from pytest_flopsbudget.reports.terminal.screen import Screen  # noqa: PLC0415 -- brings rich, which errors do without

        width = shutil.get_terminal_size((_WIDTH, 24)).columns
        colour = _wants_colour(sys.stdout) if self._colour is None else self._colour
        return Screen(width=width, colour=colour, encoding=sys.stdout.encoding)

    def lines(self, lines: Iterable[str]) -> None:
        """Write what was laid out, colours and all."""
        for line in lines:
            _write(sys.stdout, line)

    def line(self, line: str = "") -> None:
        """Write a line, whatever is in it."""
        _write(sys.stdout, visible(line))

    def document(self, text: str) -> None:
        """Write a text for a file, which is UTF-8 whatever the encoding of the terminal is."""
        buffer = getattr(sys.stdout, "buffer", None)
        if buffer is None or sys.stdout.isatty():
            self.lines(text.splitlines())
            return
        sys.stdout.flush()
        buffer.write(text.encode("utf-8", "backslashreplace"))
        buffer.flush()

    def error(self, line: str) -> None:
        """Write what a reader of the results should know too, or why there are none."""
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
