"""What workers of pytest-xdist and the controlling process send each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


#: Under which key a worker of pytest-xdist is told the encoding of the terminal, and tells the mistakes that it found.
ENCODING = "flopsbudget_encoding"


PROBLEMS = "flopsbudget_problems"


def terminal_encoding(config: pytest.Config) -> str | None:
    """The encoding in which the run's terminal is written to; None where it is not known, or there is no terminal."""
    if not config.pluginmanager.has_plugin("terminalreporter"):
        return None
    return getattr(config.get_terminal_writer()._file, "encoding", None)  # noqa: SLF001 -- pytest offers no other way


#: Under which key a worker of pytest-xdist tells what it collected.
COLLECTION = "flopsbudget_collection"
