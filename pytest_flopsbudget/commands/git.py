"""Read from git: revisions, the files in them, and the commits that changed these files."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

#: Paths that match baseline files at any depth below the current folder.
BASELINES = ":(glob)**/__flops__/*.json"
#: The beginning of a commit in the output of `git log`. Zero bytes separate its fields.
_LOG_FORMAT = "--format=%H%x00%cs%x00%s"
#: For a file that does not exist, git writes an object name that consists of zeros.
_NOTHING = "0"
#: An environment in which git writes the format that this module parses. The user's settings do not change it.
_PLAIN = {
    "LC_ALL": "C",
    "LANGUAGE": "",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LITERAL_PATHSPECS": "0",
    "GIT_NOGLOB_PATHSPECS": "0",
}
#: The end of a message about data that a shallow clone lacks. A shallow clone has a single branch, so the command
#: fetches all branches.
HOW_TO_DEEPEN = (
    "this clone is shallow: its history is cut off. In CI, set `fetch-depth: 0` for actions/checkout, or "
    "`GIT_DEPTH: 0` for GitLab; elsewhere, run: git fetch --unshallow origin '+refs/heads/*:refs/remotes/origin/*'"
)
_SETTINGS = ("log.showSignature=false", "log.diffMerges=first-parent", "log.follow=false", "color.ui=false")
_QUIET = tuple(word for setting in _SETTINGS for word in ("-c", setting))


@dataclass(frozen=True)
class Commit:
    """A commit, and the files that it changed relative to its first parent."""

    name: str
    short: str
    #: The date of the commit: "2026-01-31".
    date: str
    subject: str
    #: Path relative to the folder of the `Repository` → name of the new git object; None if the file was removed.
    files: dict[str, str | None] = field(default_factory=dict)
    #: New path → old path, for files that moved.
    moved: dict[str, str] = field(default_factory=dict)


class Repository:
    """The git repository that contains a folder. All returned paths are relative to that folder."""

    def __init__(self, folder: Path) -> None:
        """Find the repository that contains ``folder``.

        Raises:
            UsageError: git is not installed, or the folder is in no repository.
        """
        self._folder = folder
        try:
            found = self._git("rev-parse", "--is-inside-work-tree", "--is-shallow-repository").split()
        except UsageError as error:
            raise UsageError(f"{folder}: {error}; the history of baselines is read from their commits") from error
        #: Whether the clone lacks older commits.
        self.shallow = found[-1] == b"true"

    def resolve(self, revision: str) -> str | None:
        """Return the full hash of the commit that ``revision`` names; None if there is no such commit."""
        if revision.startswith("-"):
            return None
        try:
            return self._git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode().strip()
        except UsageError:
            return None

    def merge_base(self, one: str, other: str) -> str:
        """Return the best common ancestor of two commits.

        Raises:
            UsageError: the commits have no common ancestor.
        """
        try:
            return self._git("merge-base", one, other).decode().split()[0]
        except UsageError as error:
            reason = f"{one[:10]} and {other[:10]} have no common ancestor"
            raise UsageError(f"{reason} here; {HOW_TO_DEEPEN}" if self.shallow else reason) from error

    def baselines_of(self, commit: str) -> dict[str, str]:
        """Return path → hash of the git object, for each JSON file in a ``__flops__`` folder in ``commit``."""
        listed = self._git("ls-tree", "-r", "-z", commit)
        found = {}
        for row in listed.split(b"\0"):
            about, _, path = row.partition(b"\t")
            if b"__flops__/" in path and path.endswith(b".json"):
                found[os.fsdecode(path)] = about.split()[2].decode()
        return found

    def log(self, revision: str = "HEAD") -> Iterator[Commit]:
        """Yield the commits up to ``revision`` that changed a baseline below the folder. The newest commit is first.

        A merge commit is compared with its first parent only. Commits of the merged branch are left out.

        Raises:
            UsageError: the repository has no commits yet.
        """
        options = ("--raw", "--no-abbrev", "-z", "--first-parent", "-m", "--find-renames", "--root", "--relative")
        if self.resolve(revision) is None:
            raise UsageError("there is no commit in this repository yet")
        # Names of commits are shortened here, because git's option for this would shorten the names of objects too.
        length = len(self._git("rev-parse", "--short", revision).strip())
        text = self._git(*_QUIET, "log", *options, "--encoding=UTF-8", _LOG_FORMAT, revision, "--", BASELINES)
        return _commits(text, length)

    def uncommitted(self) -> list[str]:
        """Return the paths of the baselines below the folder that differ from the newest commit."""
        changed = self._git(*_QUIET, "diff", "--name-only", "--no-renames", "-z", "--relative", "HEAD", "--", BASELINES)
        new = self._git("ls-files", "-z", "--others", "--exclude-standard", "--", BASELINES)
        return [os.fsdecode(path) for path in (changed + new).split(b"\0") if path]

    def files(self) -> list[str]:
        """Return the paths of the baselines below the folder in the working tree."""
        listed = self._git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", BASELINES)
        return sorted({os.fsdecode(path) for path in listed.split(b"\0") if path})

    def top(self) -> Path:
        """Return the top folder of the working tree, with symbolic links resolved."""
        return Path(os.path.realpath(os.fsdecode(self._git("rev-parse", "--show-toplevel").rstrip(b"\n"))))

    @contextmanager
    def work_tree(self, commit: str, folder: Path) -> Iterator[Path]:
        """Check out ``commit`` in ``folder``, which must not exist, and remove the folder afterwards.

        Raises:
            UsageError: git cannot check it out.
        """
        self._git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            yield Path(os.path.realpath(folder))
        finally:
            self._git("worktree", "remove", "--force", str(folder))

    def objects(self) -> Objects:
        """Return a reader of git objects. Use it as a context manager."""
        return Objects(self._folder)

    def _git(self, *arguments: str) -> bytes:
        try:
            done = subprocess.run(  # noqa: S603 -- the arguments are this module's, and revisions that begin with no dash
                ["git", *arguments],  # noqa: S607 -- the user's own git
                cwd=self._folder,
                env=os.environ | _PLAIN,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise UsageError("git cannot be found; install it, or put it on the PATH") from error
        except OSError as error:
            raise UsageError(f"git cannot be started: {error.strerror}") from error
        if done.returncode:
            errors = done.stderr.decode(errors="replace").strip().splitlines()
            raise UsageError(f"git: {errors[0].removeprefix('fatal: ') if errors else 'failed without a message'}")
        return done.stdout


class Objects:
    """Reads git objects one after another, through a single git process."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["git", "cat-file", "--batch"],  # noqa: S607 -- the user's own git
            cwd=folder,
            env=os.environ | _PLAIN,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        """Return this reader."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the git process."""
        self._process.communicate()

    def read(self, name: str) -> bytes:
        """Return the content of the git object ``name``.

        Raises:
            UsageError: git does not have the object.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("both are pipes")
        self._process.stdin.write(name.encode() + b"\n")
        self._process.stdin.flush()
        head = self._process.stdout.readline().split()
        if len(head) != 3:  # noqa: PLR2004 -- name, kind and size
            raise UsageError(f"git does not have the object {name[:10]}; is the clone complete?")
        data = self._process.stdout.read(int(head[2]))
        self._process.stdout.read(1)
        return data


def _commits(text: bytes, length: int) -> Iterator[Commit]:
    fields = iter(text.split(b"\0"))
    commit: Commit | None = None
    for token in fields:
        word = token.lstrip(b"\n")
        if word.startswith(b":") and commit is not None:
            _, _, _, new, status = word.split()
            path = os.fsdecode(next(fields))
            if status[:1] in b"RC":
                old, path = path, os.fsdecode(next(fields))
                if status[:1] == b"R":
                    commit.moved[path] = old
                    commit.files[old] = None
            commit.files[path] = None if set(new.decode()) == {_NOTHING} else new.decode()
        elif word:
            if commit is not None:
                yield commit
            name = word.decode()
            date, subject = (next(fields).decode(errors="replace") for _ in range(2))
            commit = Commit(name, name[:length], date, subject)
    if commit is not None:
        yield commit
