"""Node ids where a user types them: patterns, and names of baseline entries."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.settings import matches_pattern

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

#: How many ids are named where there are many.
_MOST_NEAR = 3


def matching(nodeids: Iterable[str], pattern: str) -> list[str]:
    """Those of ``nodeids`` that ``pattern`` means.

    The one that is the pattern itself; or else the tests in what it names, as pytest has it: a file's, a class's, a
    function's with parameters; or else all that match, ``*`` and ``?`` standing for any characters and for one; or
    else, of a pattern without these, all that contain it.
    """
    nodeids = list(nodeids)
    return (
        [nodeid for nodeid in nodeids if nodeid == pattern]
        or [nodeid for nodeid in nodeids if is_below(nodeid, pattern)]
        or [nodeid for nodeid in nodeids if matches_pattern(nodeid, pattern)]
        or [nodeid for nodeid in nodeids if pattern in nodeid]
    )


def is_below(nodeid: str, container: str) -> bool:
    """Whether ``container`` is the file, the class or the function without parameters that ``nodeid`` belongs to."""
    return bool(container) and nodeid.startswith((f"{container}::", f"{container}["))


def near(nodeid: str, nodeids: Collection[str]) -> str:
    """A hint that ends a message: near ids, or all of them where they are few."""
    known = sorted(set(nodeids))
    if not known:
        return "there are none"
    found = difflib.get_close_matches(nodeid, known, n=_MOST_NEAR, cutoff=0.6)
    if not found and len(known) <= _MOST_NEAR:
        return f"there {'is' if len(known) == 1 else 'are'} {', '.join(known)}"
    return f"near ones: {', '.join(found)}" if found else f"there are {len(known):,} others"


def file_of_baseline(baseline: str) -> str:
    """The test file of the baseline ``tests/__flops__/test_model.json``: ``tests/test_model.py``."""
    folder, _, name = baseline.rpartition("/")
    above = folder.removesuffix("__flops__")
    return f"{above}{name.removesuffix('.json')}.py"


def is_baseline(path: str) -> bool:
    """Whether a file of this path, ``/`` between its parts, is a baseline by its place."""
    parts = path.split("/")
    return len(parts) > 1 and parts[-2] == "__flops__" and parts[-1].endswith(".json") and not parts[-1].startswith(".")


def as_path(file: str) -> Path:
    """The test file of a node id, from the current folder.

    Raises:
        UsageError: it is no file of tests.
    """
    if not file or "\0" in file or file.endswith(("/", "\\")):
        raise UsageError(f"{file!r} is no test file; write tests/test_model.py::test_name")
    return Path(file)
