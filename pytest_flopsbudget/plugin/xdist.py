"""The data that workers of pytest-xdist and the controlling process send to each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


#: The key for the encoding of the terminal. The controlling process sends it to each worker.
ENCODING = "flopsbudget_encoding"
#: The key for the mistakes that a worker found in the pyproject, in markers and in baselines.
PROBLEMS = "flopsbudget_problems"
#: The key for the tests that a worker collected.
COLLECTION = "flopsbudget_collection"
#: The key for the report of the revision that a run compares with, and for the name of this revision.
COMPARED = "flopsbudget_compared"
#: Environment variables of the run that measures another revision. Their values are the folder for its results, and the
#: top folder of the compared checkout.
REVISION_RESULTS, COMPARED_TREE = "FLOPSBUDGET_REVISION_RESULTS", "FLOPSBUDGET_COMPARED_TREE"
#: The head of the section with the text on the broken budget of a test that failed for another reason too.
SECTION = "flops budget"


def compared_results(config: pytest.Config) -> tuple[Path, str]:
    """Return what the controlling process sent to this worker under the key `COMPARED`."""
    path, revision = getattr(config, "workerinput", {})[COMPARED]
    return Path(path), revision


def terminal_encoding(config: pytest.Config) -> str | None:
    """Return the encoding of the run's terminal; None if it is unknown, or if there is no terminal."""
    if not config.pluginmanager.has_plugin("terminalreporter"):
        return None
    return getattr(config.get_terminal_writer()._file, "encoding", None)  # noqa: SLF001 -- pytest offers no other way
