"""Where reports are written to, and what would keep them from being written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import ReportError
from pytest_flopsbudget.results import whole_file

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write a report's file. Missing folders are made; devices and pipes are written to as they are.

    Raises:
        ReportError: it cannot be written; a file that was there is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A symbolic link stays one: the file that it points to is replaced.
        target = path.resolve()
        # By its own name: that of a pipe, to which /dev/stdout may lead, is no path.
        if path.exists() and not target.is_file():
            path.write_bytes(data)
        elif target.exists() and not os.access(target, os.W_OK):
            raise ReportError(f"{path}: cannot be written: it is read-only; make it writable or name another file")
        else:
            whole_file.replace(target, data)
    except (OSError, RuntimeError) as error:
        raise ReportError(f"{path}: cannot be written: {_reason(error)}; name another file") from error


def append_to(path: Path, data: bytes) -> None:
    """Append to a file that others write to as well.

    Raises:
        ReportError: it cannot be written.
    """
    try:
        with path.open("ab") as stream:
            stream.write(data)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {_reason(error)}") from error


def obstacle(path: Path) -> str | None:
    """What will keep `write_whole` from writing, as far as that can be told without writing; None if nothing will."""
    try:
        if path.is_dir():
            return "it is a folder; name a file in it"
        if path.exists():
            return None if os.access(path, os.W_OK) else "it is read-only; make it writable or name another file"
        folder = next(parent for parent in path.absolute().parents if parent.exists())
    except (OSError, ValueError) as error:
        return f"{_reason(error)}; name another file"
    if not folder.is_dir():
        return f"{folder} is a file, and no folder; name another file"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"{folder} is read-only; name another file"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
