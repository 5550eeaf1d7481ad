"""The sources that ``diff`` compares: reports, baseline files, folders with baselines, revisions, the working tree."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.commands import git
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.identifiers import file_of_baseline, is_baseline
from pytest_flopsbudget.results.changes import Key
from pytest_flopsbudget.storage import baseline, report_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.storage.baseline_document import Tests


#: The name of the revision that is checked out.
_HEAD = "HEAD"
#: Folders that hold no tests of the project.
_FOREIGN = frozenset({"node_modules", "site-packages", "__pycache__"})


@dataclass(frozen=True)
class Source:
    """The measurements on one of the two sides of a comparison."""

    #: The name of the source in messages.
    label: str
    entries: dict[Key, Complexity] = field(default_factory=dict)
    #: The only test file that the source covers; None if the source covers all test files.
    only: str | None = None
    #: Whether the source is a report. If a report lacks a test, the test may just not have run.
    is_report: bool = False

    def of_file(self, file: str) -> Source:
        """Return a source with only the measurements of one test file. ``file`` is its path in node ids."""
        entries = {key: entry for key, entry in self.entries.items() if key.nodeid.partition("::")[0] == file}
        return Source(self.label, entries, file, self.is_report)


def find_sources(old: str | None, new: str | None) -> tuple[Source, Source]:
    """Return the old side and the new side of a comparison.

    Args:
        old: the file, the folder or the revision of the old side, or a range of revisions (``A..B``); None for HEAD.
        new: the file, the folder or the revision of the new side; None for the working tree. If
            ``old`` is a range, ``new`` is None.

    Raises:
        UsageError: an argument names no file, folder or revision, or the named source cannot be read.
    """
    if new is None and old is not None and ".." in old and not _exists(old):
        return _range(old)
    before = _source(old or _HEAD)
    after = _working_tree() if new is None else _source(new)
    if before.only is not None and after.only is not None:
        # The two files are compared even if their names differ.
        renamed = {
            Key(f"{after.only}::{key.nodeid.partition('::')[2]}", key.name): entry
            for key, entry in before.entries.items()
        }
        return Source(before.label, renamed, after.only), after
    if before.only is not None:
        return before, after.of_file(before.only)
    if after.only is not None:
        return before.of_file(after.only), after
    return before, after


def _exists(word: str) -> bool:
    # Path.exists raises an error for a name that is too long, and a revision may be longer than any file name.
    return os.path.exists(word)  # noqa: PTH110


def _range(text: str) -> tuple[Source, Source]:
    """Return the sources of A and B for the text ``A..B``. For ``A...B``, the merge base of A and B replaces A."""
    old, dots, new = text.partition("..." if "..." in text else "..")
    repository = git.Repository(Path.cwd())
    commits = [_commit(repository, word or _HEAD) for word in (old, new)]
    labels = [old or _HEAD, new or _HEAD]
    if dots == "...":
        commits[0] = repository.merge_base(*commits)
        labels[0] = commits[0][:10]
    before, after = (_revision(repository, *pair) for pair in zip(commits, labels, strict=True))
    return before, after


def _source(word: str) -> Source:
    path = Path(word)
    if _exists(word) and path.is_dir():
        return _folder(path)
    if _exists(word):
        return _file(path)
    repository = None
    try:
        repository = git.Repository(Path.cwd())
    except UsageError:
        if word == _HEAD:
            raise
    if repository is None:
        raise UsageError(f"{word}: no such file or folder, and this is no git repository, where it might be a revision")
    if word.endswith(".json"):
        raise UsageError(f"{word}: no such file")
    return _revision(repository, _commit(repository, word), word)


def _commit(repository: git.Repository, word: str) -> str:
    commit = repository.resolve(word)
    if commit is None and word == _HEAD:
        raise UsageError("there is no commit in this repository yet")
    if commit is None:
        reason = f"{word}: no such file, folder or revision; "
        others = "give a report, a baseline, a folder, a branch or a commit"
        raise UsageError(reason + (git.HOW_TO_DEEPEN if repository.shallow else others))
    return commit


def _revision(repository: git.Repository, commit: str, label: str) -> Source:
    entries: dict[Key, Complexity] = {}
    with repository.objects() as objects:
        for path, name in repository.baselines_of(commit).items():
            if is_baseline(path):
                entries |= _read(objects.read(name), Path(f"{label}:{path}"), file_of_baseline(path))
    return Source(label, entries)


def _working_tree() -> Source:
    here = Path.cwd()
    try:
        paths: Iterable[str] = git.Repository(here).files()
    except UsageError:
        paths = _walk(here)
    return Source("the working tree", _read_files(here, paths))


def _folder(folder: Path) -> Source:
    label = str(folder)
    if folder.resolve().name == "__flops__":
        paths = sorted(f"__flops__/{path.name}" for path in folder.glob("*.json"))
        folder = folder.resolve().parent
    else:
        paths = list(_walk(folder))
    if not paths:
        raise UsageError(f"{label}: there are no baselines in this folder, nor below it")
    return Source(label, _read_files(folder, paths))


def _walk(folder: Path) -> Iterator[str]:
    """Yield the paths of the baselines below a folder, relative to the folder."""
    for here, below, files in os.walk(folder):
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".") and name not in _FOREIGN and not _is_environment(here, name)
        )
        for name in sorted(files):
            path = Path(here, name).relative_to(folder).as_posix()
            if is_baseline(path):
                yield path


def _is_environment(folder: str, name: str) -> bool:
    return Path(folder, name, "pyvenv.cfg").exists()


def _read_files(folder: Path, paths: Iterable[str]) -> dict[Key, Complexity]:
    entries: dict[Key, Complexity] = {}
    for path in paths:
        if is_baseline(path):
            tests = baseline.load(folder / path).tests
            entries |= _keyed(file_of_baseline(path), tests)
    return entries


def _file(path: Path) -> Source:
    if path.parent.resolve().name == "__flops__":
        file = file_of_baseline(_from_here(path))
        return Source(str(path), _keyed(file, baseline.load(path).tests), file)
    report = report_file.load(path)
    entries = {
        Key(test.nodeid, measurement.name): measurement.complexity
        for test in report.tests
        for measurement in test.measurements
    }
    return Source(str(path), entries, is_report=True)


def _from_here(path: Path) -> str:
    """Return the path relative to the current folder, as in node ids. For a path outside, return the absolute path."""
    whole = path.parent.resolve() / path.name
    try:
        return whole.relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return whole.as_posix()


def _read(data: bytes, place: Path, file: str) -> dict[Key, Complexity]:
    return _keyed(file, baseline.loads(data.decode("utf-8", "surrogateescape"), place).tests)


def _keyed(file: str, tests: Tests) -> dict[Key, Complexity]:
    return {
        Key(f"{file}::{test_id}", name): entry for test_id, entries in tests.items() for name, entry in entries.items()
    }
