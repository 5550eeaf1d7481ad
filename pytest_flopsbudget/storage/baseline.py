"""Baselines: the accepted costs. A test file has one JSON file, in the folder ``__flops__`` next to the test file."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.quantities.metrics import baseline_metrics
from pytest_flopsbudget.results.folding import for_baselines
from pytest_flopsbudget.results.latency_noise import keep_latencies
from pytest_flopsbudget.storage import atomic_file, baseline_document
from pytest_flopsbudget.storage.packed_text import FileState, PackedText, StateOfLines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.storage.baseline_document import Content, Tests
    from pytest_flopsbudget.storage.baseline_lines import Key


#: Writing takes fractions of a second. A process that holds the lock for more seconds than this has stopped responding.
LOCK_SECONDS = 60.0

_ATTRIBUTES = b"""\
# pytest-flopsbudget: where two branches change a baseline, git keeps the lines of both. Each line names its test. The
# next run refuses lines that contradict each other.
*.json merge=union text eol=lf
"""


@dataclass(frozen=True, slots=True)
class BaselineFile:
    """The contents of one baseline file."""

    path: Path
    #: Test id (the node id without its file) → name of the measurement → cost when it was accepted.
    tests: Tests
    #: (test id, name) → (entry, compressed text) for entries that were read from a file. An unchanged entry keeps its
    #: text.
    texts: Mapping[Key, tuple[Complexity, bytes]] = field(default_factory=dict, compare=False, repr=False)


def load(path: Path, *, torn: bool = False) -> BaselineFile:
    """Read a baseline file. A file that does not exist has no entries.

    Args:
        path: The file.
        torn: Whether torn entries are allowed. In a torn entry, a merge left lines that contradict each other, or lines
            are missing. Torn entries are left out of the result. Measuring their tests again repairs the file.

    Raises:
        BaselineError: the file cannot be read, is no JSON, has conflict markers, was written by a newer version, or has
            content that is not allowed in a baseline. The message names the line.
    """
    content, _ = _load(path, keep_texts=False)
    if content.torn and not torn:
        raise BaselineError(next(iter(content.torn.values())))
    return BaselineFile(path, content.tests)


def loads(text: str, path: Path) -> BaselineFile:
    """Parse ``text``, the present or an earlier content of the baseline file ``path``.

    Raises:
        BaselineError: see :func:`load`.
    """
    content = _read_text(text.encode(errors="surrogatepass"), path)
    if content.torn:
        raise BaselineError(next(iter(content.torn.values())))
    return BaselineFile(path, content.tests, content.texts)


def dumps(file: BaselineFile) -> str:
    """Return the text of a baseline file."""
    return b"".join(baseline_document.write(file.tests, file.texts)).decode()


def _packed(file: BaselineFile) -> PackedText:
    return PackedText(baseline_document.write(file.tests, file.texts))


def refuse_outside(path: Path, root: Path) -> None:
    """Raise an error if symbolic links place a baseline outside of a folder.

    Args:
        path: The baseline file. It need not exist.
        root: The folder in which baselines may be written.

    Raises:
        BaselineError: the file or its folder is a symbolic link to a place outside of ``root``.
    """
    try:
        target = Path(os.path.realpath(path))
        inside = target.is_relative_to(os.path.realpath(root))
    except (OSError, ValueError) as error:
        raise BaselineError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}.") from error
    if not inside:
        raise BaselineError(
            f"{path}: cannot be written: a symbolic link leads out of {root}, to {target}. Write that file where it is."
        )


def change(path: Path, function: Callable[[BaselineFile], BaselineFile]) -> bool:
    """Change a baseline file completely or not at all. No other process changes the file meanwhile.

    Args:
        path: The file. It need not exist. If no entry is left, the file is removed.
        function: The old content → the new content. It is called again if another process changed the file first. The
            old content does not have torn entries; the function has to add them again.

    Returns:
        Whether the file was written. If the content is unchanged, the file is written only if its format is old.

    Raises:
        BaselineError: the file cannot be read or written; its old content is unchanged.
    """
    return _exchange(path, lambda: _changed(path, function))


def save(file: BaselineFile) -> bool:
    """Write a baseline file without reading its old content. Unlike `change`, this writes files without entries."""
    return _exchange(file.path, lambda: (_state(file.path), _packed(file)))


def update_entries(file: BaselineFile, measured: Mapping[str, Mapping[str, Complexity]]) -> BaselineFile:
    """Replace the entries of tests by new measurements.

    Args:
        file: The content of the baseline file so far.
        measured: Test id → name → measurement, for the tests that ran and passed. Entries of these tests under
            names that were not measured are removed. All other tests keep their entries. An entry keeps
            latencies of other machines.
    """
    tests = file.tests | {
        test_id: {name: as_stored(entry, file.tests.get(test_id, {}).get(name)) for name, entry in entries.items()}
        for test_id, entries in measured.items()
    }
    return replace(file, tests={test_id: entries for test_id, entries in tests.items() if entries})


def as_stored(measured: Complexity, old: Complexity | None) -> Complexity:
    """Return the part of a measurement that a baseline stores. Latencies that only ``old`` has are added.

    A baseline has no notes, no sources, no ``memory_at_peak`` and no ``timing``. It has no output shapes and no peaks
    of modules either: see `for_baselines`. It has the laws of the held metrics only, without the counts that they rest
    on.
    """
    kept = msgspec.structs.replace(
        measured,
        metrics=baseline_metrics(measured.metrics),
        modules=for_baselines(measured.modules),
        notes=(),
        memory_at_peak=None,
        memory_over_time=(),
        sources={},
        timing=None,
        laws=None if measured.laws is None else measured.laws.held(),
    )
    return keep_latencies(kept, old)


def _exchange(path: Path, make: Callable[[], tuple[FileState, PackedText | None]]) -> bool:
    """Write a file, or remove it if the text is None. Return whether the file was written or removed.

    ``make`` returns the present state of the file, and the text to write. It is called again if another process changed
    the file. A file that differs only by CRLF line ends is kept.
    """
    before, after = make()
    # A symbolic link is kept. The file that it points to is replaced.
    target = Path(os.path.realpath(path))
    if before.holds(after) and not atomic_file.leftovers(target):
        return False
    try:
        _make_folder(path.parent)
        with atomic_file.locked(target.parent, LOCK_SECONDS):
            atomic_file.remove_leftovers(target)
            if not _is_as_before(path, before):
                before, after = make()
            if before.holds(after):
                return False
            _write(target, after, path)
    except atomic_file.BusyError as error:
        raise BaselineError(
            f"{path}: cannot be written: {error} has been writing beside it for {LOCK_SECONDS:.0f} s. The file is as "
            "it was; end that process and run again."
        ) from error
    except OSError as error:
        raise BaselineError(f"{path}: cannot be written: {error.strerror or error}. The file is as it was.") from error
    return True


def _bytes(path: Path) -> bytes | None:
    """Return the bytes of the file; None if the file does not exist."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: no file can have this name
        reason = getattr(error, "strerror", None) or error
        raise BaselineError(f"{path}: cannot be read: {reason}. Make it a readable file.") from error


def _state(path: Path) -> FileState:
    data = _bytes(path)
    return FileState() if data is None else FileState.of(data)


def _is_as_before(path: Path, before: FileState) -> bool:
    try:
        with path.open("rb") as stream:
            return FileState.digest_of(stream) == before.digest
    except FileNotFoundError:
        return before.digest is None


def _load(path: Path, *, keep_texts: bool) -> tuple[Content, FileState]:
    """Return the content of the file, and the state in which the file was read."""
    with suppress(OSError, ValueError), path.open("rb") as stream:
        lines = StateOfLines(stream)
        content = baseline_document.read_pieces(lines, keep_texts=keep_texts)
        if content is not None:
            return content, lines.state
    data = _bytes(path)
    if data is None:
        return baseline_document.Content({}), FileState()
    return _read_text(data, path), FileState.of(data)


def _read_text(data: bytes, path: Path) -> Content:
    try:
        # An editor may have added a byte order mark, and git may have changed the line ends.
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BaselineError(f"{path}, line {line}: not UTF-8. {baseline_document.REMEDY}") from error
    return baseline_document.read(text, path)


def _changed(path: Path, function: Callable[[BaselineFile], BaselineFile]) -> tuple[FileState, PackedText | None]:
    content, before = _load(path, keep_texts=True)
    file = function(BaselineFile(path, content.tests, content.texts))
    for test_id, reason in content.torn.items():
        if test_id not in file.tests:
            raise BaselineError(reason)
    return before, _packed(file) if file.tests else None


def _make_folder(folder: Path) -> None:
    try:
        # Only the folder __flops__ is created. If the folder of the test file was removed, it must not be created
        # again.
        folder.mkdir(exist_ok=True)
    except FileExistsError as error:
        what = "is a symbolic link that leads nowhere" if folder.is_symlink() else "is no folder"
        raise OSError(error.errno, f"{folder.name} beside the tests {what}") from error


def _write(target: Path, text: PackedText | None, path: Path) -> None:
    # Replacing a file needs permission for the folder only. A user may have made the file read-only on purpose, so
    # check it.
    if target.exists() and not os.access(target, os.W_OK):
        raise BaselineError(f"{path}: cannot be written: it is read-only. The file is as it was.")
    if text is None:
        target.unlink()
        atomic_file.sync_folder(target.parent)
        return
    attributes = target.parent / ".gitattributes"
    if not attributes.exists() and any((folder / ".git").exists() for folder in target.parents):
        atomic_file.replace_file(attributes, [_ATTRIBUTES])
    atomic_file.replace_file(target, text.pieces())
