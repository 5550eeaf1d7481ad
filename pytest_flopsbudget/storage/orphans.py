"""Find orphans, which are baseline entries whose test is gone, and the new tests that may replace them."""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.identifiers import FOLDER, MODELS_FILE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.storage.baseline import BaselineFile


@dataclass(frozen=True)
class Orphan:
    """A baseline entry without its test."""

    #: The node id that the test had.
    nodeid: str
    #: The baseline file.
    path: Path
    #: Name of the measurement → its cost when it was accepted.
    entries: Mapping[str, Complexity]


def find_orphans(file: BaselineFile, file_nodeid: str, collected: Collection[str]) -> list[Orphan]:
    """Return an orphan for each test id in ``file`` that is not in ``collected``."""
    return [
        Orphan(f"{file_nodeid}::{test_id}", file.path, entries)
        for test_id, entries in sorted(file.tests.items())
        if test_id not in collected
    ]


def find_files_without_test(folders: Iterable[Path], skipped: Sequence[str]) -> Iterator[Path]:
    """Yield the baseline files below ``folders`` that have no test file beside their ``__flops__`` folder.

    Args:
        folders: the folders to search.
        skipped: patterns of folder names, or of whole paths, in which pytest does not look for tests.
    """
    seen = set()
    for folder in folders:
        for here, below, _ in os.walk(folder):
            if here in seen:
                below.clear()
                continue
            seen.add(here)
            if FOLDER in below:
                yield from _without_test_file(Path(here))
            below[:] = sorted(name for name in below if not _is_skipped(here, name, skipped))


def _without_test_file(folder: Path) -> Iterator[Path]:
    # The test file may have any suffix, because tests need not be written in Python.
    stems = {entry.stem for entry in folder.iterdir() if not entry.is_dir()}
    # The models of --flops-budget-model have no file.
    stems.add(MODELS_FILE)
    for path in sorted((folder / FOLDER).glob("*.json")):
        if path.stem not in stems:
            yield path


def _is_skipped(folder: str, name: str, patterns: Sequence[str]) -> bool:
    path = os.path.join(folder, name)  # noqa: PTH118 -- a folder of thousands need not become thousands of objects
    return (
        name == FOLDER
        or any(fnmatch.fnmatchcase(path if os.sep in pattern else name, pattern) for pattern in patterns)
        or os.path.exists(os.path.join(path, "pyvenv.cfg"))  # noqa: PTH110, PTH118
    )
