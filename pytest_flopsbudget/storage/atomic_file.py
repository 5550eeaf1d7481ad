"""Write files completely or not at all, in one process at a time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from pytest_flopsbudget.errors import ReportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_POLL_SECONDS = 0.01


class BusyError(Exception):
    """Another process holds the lock and does not release it."""


def replace_file(target: Path, pieces: Iterable[bytes]) -> None:
    """Replace the content of ``target`` by ``pieces``. If the process is stopped, the file has all old or all new data.

    The caller must hold the lock of the folder.

    Raises:
        OSError: the file cannot be replaced; it still has the old bytes.
    """
    mode = None
    with contextlib.suppress(FileNotFoundError):
        mode = stat.S_IMODE(target.stat().st_mode)
    # The temporary name does not contain the name of the file, because that name may already have the maximum length.
    temporary = target.with_name(f"{_prefix(target)}{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.writelines(pieces)
            stream.flush()
            os.fsync(stream.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(target.parent)


def leftovers(target: Path) -> list[Path]:
    """Return the temporary files of ``target``. A killed process left them, or a process is writing them now."""
    return [*target.parent.glob(f"{_prefix(target)}*.tmp")]


def remove_leftovers(target: Path) -> None:
    """Remove temporary files that killed processes left. The caller must hold the lock, so that no process writes."""
    for path in leftovers(target):
        with contextlib.suppress(OSError):
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Make sure that the names of files in ``folder`` survive a power failure, if the system supports this."""
    with contextlib.suppress(OSError), _opened(folder) as descriptor:
        os.fsync(descriptor)


@contextlib.contextmanager
def locked(folder: Path, seconds: float) -> Iterator[None]:
    """Hold the lock of ``folder`` while the context lasts. If the process ends, its lock ends too.

    The folder itself is locked, so no lock file appears in a user's repository. If folders cannot be locked (Windows,
    network file systems), a file in the system's folder for temporary files is locked instead.

    Raises:
        BusyError: another process held the lock for more than ``seconds``.
        OSError: the folder cannot be opened.
    """
    until = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(_opened(folder))
            while not filelock.lock_descriptor(descriptor, blocking=False):
                if time.monotonic() > until:
                    raise BusyError(_holder(descriptor))
                time.sleep(_POLL_SECONDS)
        except OSError:
            if not folder.is_dir():
                raise
            lock = filelock.FileLock(_stand_in(folder), timeout=seconds, poll_interval=_POLL_SECONDS)
            try:
                stack.enter_context(lock)
            except filelock.Timeout as error:
                raise BusyError(f"who holds {lock.lock_file}") from error
        yield


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _stand_in(folder: Path) -> Path:
    # The name of the lock file contains the user, because this user could not open another user's lock file.
    user = os.getuid() if hasattr(os, "getuid") else ""
    name = hashlib.sha256(os.fsencode(f"{user} {os.path.realpath(folder)}")).hexdigest()
    return Path(tempfile.gettempdir()) / f"pytest-flopsbudget-{name[:32]}.lock"


def _holder(descriptor: int) -> str:
    """Return a description of the process that holds the lock, if the system shows it."""
    inode = os.fstat(descriptor).st_ino
    with contextlib.suppress(OSError):
        found = re.search(rf"FLOCK\s+\S+\s+WRITE\s+(\d+)\s+\S+:{inode}\s", Path("/proc/locks").read_text("ascii"))
        if found:
            return f"process {found[1]}"
    return "another process"


def _prefix(target: Path) -> str:
    return f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]}."


@contextlib.contextmanager
def folder_made(folder: Path) -> Iterator[None]:
    """Make ``folder`` and the missing folders above it. If the context raises an error, remove those that were made.

    Raises:
        OSError: a folder cannot be made.
    """
    made: list[Path] = []
    try:
        for missing in _missing_folders(folder):
            with contextlib.suppress(FileExistsError):  # another process may make it too
                missing.mkdir()
                made.append(missing)
        folder.mkdir(exist_ok=True)  # raises an error if a file has this name
        yield
    except BaseException:
        for one in reversed(made):
            with contextlib.suppress(OSError):  # another process may have written to it
                one.rmdir()
        raise


def _missing_folders(folder: Path) -> list[Path]:
    """Return the folders that do not exist, from the outermost one to ``folder``."""
    missing: list[Path] = []
    for one in (folder, *folder.parents):
        if one.exists():
            break
        missing.insert(0, one)
    return missing


def write_report(path: Path, data: bytes) -> None:
    """Write the file of a report. Missing folders are created, and removed again if the file cannot be written.

    Devices and pipes are written to, but not replaced.

    Raises:
        ReportError: the file cannot be written; an existing file is unchanged.
    """
    try:
        with folder_made(path.parent):
            # A symbolic link is kept. The file that it points to is replaced.
            target = path.resolve()
            # The path is opened as given: /dev/stdout may point to a pipe, and the resolved path of a pipe does not
            # exist.
            if path.exists() and not target.is_file():
                path.write_bytes(data)
            elif target.exists() and not os.access(target, os.W_OK):
                raise ReportError(f"{path}: cannot be written: it is read-only; make it writable or name another file")
            else:
                replace_file(target, [data])
    except (OSError, RuntimeError, ValueError) as error:
        raise ReportError(f"{path}: cannot be written: {_reason(error)}; name another file") from error


def append_to(path: Path, data: bytes) -> None:
    """Append to a file to which other programs write as well.

    Raises:
        ReportError: the file cannot be written.
    """
    try:
        with path.open("ab") as stream:
            stream.write(data)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {_reason(error)}") from error


def find_obstacle(path: Path) -> str | None:
    """Return why `write_report` will fail; None if no reason is known before writing."""
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
