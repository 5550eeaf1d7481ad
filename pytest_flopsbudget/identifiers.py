"""Names that users write or read: node ids, paths of baselines, patterns."""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


#: The name of the folder with the baselines of the test files beside it.
FOLDER = "__flops__"

#: The place of a test file in the node ids of models that --flops-budget-model names: "flops-budget-model::hf:gpt2".
#: There is no such file.
MODELS_FILE = "flops-budget-model"

#: The name of an operator in formulas and in the pyproject: "namespace::name", without an overload.
OPERATOR = re.compile(r"[A-Za-z_]\w*::[A-Za-z_]\w*")


#: The maximum number of ids that a message lists.
_MAX_NEAR = 3


def match_nodeids(nodeids: Iterable[str], pattern: str) -> list[str]:
    """Return the node ids that ``pattern`` selects. The first rule that finds a node id decides.

    1. The node id that equals the pattern.
    2. All tests of the file, the class or the parametrized function that the pattern names.
    3. All node ids that match the pattern; ``*`` matches any characters, ``?`` matches one.
    4. All node ids that contain the pattern.
    """
    nodeids = list(nodeids)
    return (
        [nodeid for nodeid in nodeids if nodeid == pattern]
        or [nodeid for nodeid in nodeids if is_below(nodeid, pattern)]
        or [nodeid for nodeid in nodeids if matches_pattern(nodeid, pattern)]
        or [nodeid for nodeid in nodeids if pattern in nodeid]
    )


def is_below(nodeid: str, container: str) -> bool:
    """Return whether ``container`` names the file, the class or the parametrized function of ``nodeid``."""
    return bool(container) and nodeid.startswith((f"{container}::", f"{container}["))


def near_nodeids(nodeid: str, nodeids: Collection[str]) -> str:
    """Return a hint for the end of a message: the ``nodeids`` that are similar to ``nodeid``.

    If none is similar, the hint names all ``nodeids``, or, if there are many, their number.
    """
    known = sorted(set(nodeids))
    if not known:
        return "there are none"
    found = difflib.get_close_matches(nodeid, known, n=_MAX_NEAR, cutoff=0.6)
    if not found and len(known) <= _MAX_NEAR:
        return f"there {'is' if len(known) == 1 else 'are'} {', '.join(known)}"
    return f"near ones: {', '.join(found)}" if found else f"there are {len(known):,} others"


def file_of_baseline(baseline: str) -> str:
    """Return the test file of a baseline: ``tests/test_model.py`` for ``tests/__flops__/test_model.json``."""
    folder, _, name = baseline.rpartition("/")
    above = folder.removesuffix("__flops__")
    stem = name.removesuffix(".json")
    return f"{above}{stem}" if stem == MODELS_FILE else f"{above}{stem}.py"


def is_baseline(path: str) -> bool:
    """Return whether a path, written with ``/``, can be the path of a baseline file."""
    parts = path.split("/")
    return len(parts) > 1 and parts[-2] == "__flops__" and parts[-1].endswith(".json") and not parts[-1].startswith(".")


def as_path(file: str) -> Path:
    """Return the path of a node id's test file, relative to the current folder.

    Raises:
        UsageError: ``file`` cannot be the path of a test file.
    """
    if not file or "\0" in file or file.endswith(("/", "\\")):
        raise UsageError(f"{file!r} is no test file; write tests/test_model.py::test_name")
    return Path(file)


def matches_pattern(text: str, pattern: str) -> bool:
    """Return whether ``pattern`` matches the whole text. ``*`` matches any characters, ``?`` matches one character."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def selects_test(nodeid: str, pattern: str) -> bool:
    """Return whether ``pattern`` matches the node id, or the folder, file, class or parametrized function around it."""
    container = pattern.rstrip("/")
    return matches_pattern(nodeid, pattern) or any(
        matches_pattern(nodeid, f"{container}{below}") for below in ("/*", "::*", "[*")
    )


def may_match_below(path: str, pattern: str) -> bool:
    """Return whether the pattern may match the node id of a test in the file or folder ``path``."""
    fixed = re.split(r"[*?]", pattern, maxsplit=1)[0]
    return any(fixed.startswith(start) or start.startswith(fixed) for start in (f"{path}::", f"{path}/"))


def baseline_path(test_file: Path) -> Path:
    """Return the path of the baseline: ``tests/__flops__/test_net.json`` for ``tests/test_net.py``."""
    return test_file.parent / FOLDER / f"{test_file.stem}.json"


def is_model(nodeid: str) -> bool:
    """Return whether the node id, as the user typed it, names a model of --flops-budget-model, or all of them."""
    return Path(nodeid.partition("::")[0]).name == MODELS_FILE


def is_test_file(path: Path) -> bool:
    """Return whether the path is a test file that exists, or the place of models, which have no file."""
    # Path.is_file raises an error for a name that is too long.
    return path.name == MODELS_FILE or os.path.isfile(path)  # noqa: PTH113


def split_nodeid(nodeid: str) -> tuple[str, str]:
    """Split a node id of pytest into the test file and the test id, which is the key in the baseline."""
    file, _, test_id = nodeid.partition("::")
    return file, test_id


def update_command(*paths: str, update_mode: Literal["new", "improved"] | None = None) -> str:
    """Return the command that accepts measurements: all, or only the new or improved ones.

    Args:
        paths: node ids, files and folders to run, as typed in the folder where pytest was started; all tests if empty.
        update_mode: the measurements to accept; None for all.
    """
    return " ".join(
        ["pytest --flops-budget-update" + (f"={update_mode}" if update_mode else ""), *map(shlex.quote, paths)]
    )
