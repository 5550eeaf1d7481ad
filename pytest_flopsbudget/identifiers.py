"""Names that a user writes or sees, for rooms that share nothing else."""

from __future__ import annotations

import difflib
import fnmatch
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


#: The folder of the baselines, beside the test files.
FOLDER = "__flops__"

#: An operator, as written in formulas and in the pyproject: "namespace::name", without overload.
OPERATOR = re.compile(r"[A-Za-z_]\w*::[A-Za-z_]\w*")


#: How many ids are named where there are many.
_MAX_NEAR = 3


def match_nodeids(nodeids: Iterable[str], pattern: str) -> list[str]:
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


def near_nodeids(nodeid: str, nodeids: Collection[str]) -> str:
    """A hint that ends a message: near ids, or all of them where they are few."""
    known = sorted(set(nodeids))
    if not known:
        return "there are none"
    found = difflib.get_close_matches(nodeid, known, n=_MAX_NEAR, cutoff=0.6)
    if not found and len(known) <= _MAX_NEAR:
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


def matches_pattern(text: str, pattern: str) -> bool:
    """Whether all of ``text`` matches: ``*`` is any characters, ``?`` one; everything else is itself, brackets too."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def baseline_path(test_file: Path) -> Path:
    """Where the baseline of ``tests/test_backbone.py`` is: ``tests/__flops__/test_backbone.json``."""
    return test_file.parent / FOLDER / f"{test_file.stem}.json"


def split_nodeid(nodeid: str) -> tuple[str, str]:
    """Split pytest's node id into the test file and the test id, under which the baseline keeps it."""
    file, _, test_id = nodeid.partition("::")
    return file, test_id
