"""The baseline: the costs that were accepted, one JSON file per test file, in ``__flops__`` beside it."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.names import FOLDER
from pytest_flopsbudget.results import baseline_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.results.baseline_text import Tests
    from pytest_flopsbudget.results.complexity import Complexity


@dataclass(frozen=True, slots=True)
class BaselineFile:
    """What one baseline file holds."""

    path: Path
    #: Test id, the node id after its file → name of the measurement → what it cost when it was accepted.
    tests: Tests


def baseline_path(test_file: Path) -> Path:
    """Where the baseline of ``tests/test_backbone.py`` is: ``tests/__flops__/test_backbone.json``."""
    return test_file.parent / FOLDER / f"{test_file.stem}.json"


def split_nodeid(nodeid: str) -> tuple[str, str]:
    """Split pytest's node id into the test file and the test id, under which the baseline keeps it."""
    file, _, test_id = nodeid.partition("::")
    return file, test_id


def load(path: Path) -> BaselineFile:
    """Read a baseline file; one that does not exist holds nothing.

    Raises:
        BaselineError: it cannot be read, is no JSON, has conflict markers, was written by a newer version, or does not
            hold what a baseline holds. The message names the line.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        return BaselineFile(path, {})
    except OSError as error:
        raise BaselineError(f"{path}: cannot be read: {error.strerror}. Make it a file that can be.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BaselineError(f"{path}, line {line}: not UTF-8. {baseline_text.REMEDY}") from error
    return BaselineFile(path, baseline_text.read(text, path))


def dumps(file: BaselineFile) -> str:
    """The text of a baseline file."""
    return baseline_text.write(file.tests)


def save(file: BaselineFile) -> bool:
    """Write a baseline file, whole or not at all; one that already holds the same bytes is left alone.

    Returns:
        Whether it was written.

    Raises:
        BaselineError: it cannot be written; what was there is still there.
    """
    data = dumps(file).encode()
    # A symbolic link stays one: the file that it points to is replaced.
    target = Path(os.path.realpath(file.path))
    try:
        mode = None
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(target.stat().st_mode)
            if target.read_bytes() == data:
                return False
        # Replacing asks the directory's permission only, and would overrule a file that is read-only on purpose.
        if mode is not None and not os.access(target, os.W_OK):
            raise BaselineError(f"{file.path}: cannot be written: it is read-only. The file is as it was.")
        _replace(target, data, mode)
    except OSError as error:
        raise BaselineError(f"{file.path}: cannot be written: {error.strerror}. The file is as it was.") from error
    return True


def updated(file: BaselineFile, measured: Mapping[str, Mapping[str, Complexity]]) -> BaselineFile:
    """Take over new measurements.

    Args:
        file: What was accepted so far.
        measured: Test id → name → measurement, for the tests that ran and passed. Each of them loses the names that it
            did not measure; all other tests keep their entries.
    """
    tests = file.tests | {test_id: dict(entries) for test_id, entries in measured.items()}
    return replace(file, tests={test_id: entries for test_id, entries in tests.items() if entries})


def _replace(target: Path, data: bytes, mode: int | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
