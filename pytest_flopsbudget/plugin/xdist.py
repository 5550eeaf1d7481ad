"""What workers of pytest-xdist and the controlling process send each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


#: Key under which the controlling process sends the encoding of its terminal to a worker.
ENCODING = "flopsbudget_encoding"
#: Key under which a worker sends the mistakes that it found in the pyproject, in markers and in baselines.
PROBLEMS = "flopsbudget_problems"
#: Key under which a worker sends what it collected.
COLLECTION = "flopsbudget_collection"


def terminal_encoding(config: pytest.Config) -> str | None:
    """Return the encoding of the run's terminal; None where it is unknown, or where there is no terminal."""
    if not config.pluginmanager.has_plugin("terminalreporter"):
        return None
    return getattr(config.get_terminal_writer()._file, "encoding", None)  # noqa: SLF001 -- pytest offers no other way
