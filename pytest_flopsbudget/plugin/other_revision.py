"""``--flops-budget-compare=REVISION``: measure the tests at another revision, and use the results as the baseline."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flopsbudget.errors import ReportError, UsageError
from pytest_flopsbudget.plugin.xdist import COMPARED, COMPARED_TREE, REVISION_RESULTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_flopsbudget.storage.run_record import Entry

#: The number of lines of the other run's output that an error shows.
_SHOWN_LINES = 12
#: Exit codes of a run at the other revision that has results. Test files that cannot be imported interrupt a run.
_HAS_RESULTS = (
    *(pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED),
    *(pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.INTERRUPTED),
)


class OtherRevision:
    """Runs the tests at another revision before the tests of this run, in a process and a work tree of its own.

    This is a temporary work tree of the user's git repository. It is removed when this run ends.
    """

    def __init__(self, config: pytest.Config, revision: str) -> None:
        self._config = config
        self._revision = revision
        self._folder: Path | None = None
        #: Node ids that were measured at the other revision → names of their measurements.
        self._measured: dict[str, set[str]] = {}
        #: Node id → why the test was not measured at the other revision.
        self._unmeasured: dict[str, str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Measure the other revision, before workers of pytest-xdist start.

        Raises:
            pytest.UsageError: there is no such revision, or its tests cannot run.
        """
        if self._config.option.collectonly:
            return
        self._folder = Path(tempfile.mkdtemp(prefix="flopsbudget-revision-"))
        try:
            self._measure(self._folder)
        except UsageError as error:
            raise pytest.UsageError(f"--flops-budget-compare={self._revision}: {error}") from error

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of pytest-xdist where the results of the other revision are."""
        if self._folder is not None:
            path, revision = self.results
            node.workerinput[COMPARED] = str(path), revision

    @property
    def results(self) -> tuple[Path, str]:
        """The report of the other revision, and the name of the revision."""
        from pytest_flopsbudget.plugin.at_revision import REPORT

        if self._folder is None:
            raise AssertionError("the session has not started")
        return self._folder / REPORT, self._revision

    def pytest_unconfigure(self) -> None:
        """Remove the results of the other revision."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _measure(self, folder: Path) -> None:
        from pytest_flopsbudget.commands import git

        here = self._config.invocation_params.dir
        repository = git.Repository(here)
        commit = repository.resolve(self._revision)
        if commit is None:
            hint = git.HOW_TO_DEEPEN if repository.shallow else "fetch it first, for example: git fetch origin main"
            raise UsageError(f"git knows no such branch, tag or commit here; {hint}")
        top = repository.top()
        if self._config.pluginmanager.has_plugin("terminalreporter"):
            line = f"flops-budget: measuring {self._revision} ({commit[:10]}) first, to compare with it"
            self._config.get_terminal_writer().line(line)
        root = Path(os.path.realpath(self._config.rootpath))
        if not root.is_relative_to(top) and not top.is_relative_to(root):
            raise UsageError(f"pytest's root folder {root} is outside of the repository {top}; give another --rootdir")
        # Node ids begin at the root folder. If the repository is below it, the work tree is as many folders below.
        inner = top.relative_to(root) if top.is_relative_to(root) else Path()
        with repository.work_tree(commit, folder / "tree" / inner) as tree:
            done = self._run(folder, top, tree, root)
        self._read(folder, done)

    def _run(self, folder: Path, top: Path, tree: Path, root: Path) -> subprocess.CompletedProcess[str]:
        here = Path(os.path.realpath(self._config.invocation_params.dir))
        arguments = [moved_argument(str(arg), top, tree) for arg in self._config.invocation_params.args]
        added = [moved_argument(arg, top, tree) for arg in shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))]
        # Without this option, pytest may choose another root folder: the ini file may be newer than the revision.
        root_there = Path(os.path.normpath(tree / os.path.relpath(root, top)))
        root_there.mkdir(parents=True, exist_ok=True)
        ours = ["-p", "pytest_flopsbudget.plugin.at_revision", f"--rootdir={root_there}"]
        if self._config.pluginmanager.has_plugin("_cov"):
            ours.append("--no-cov")
        end_of_options = arguments.index("--") if "--" in arguments else len(arguments)
        arguments[end_of_options:end_of_options] = ours
        folders = [*_moved_folders(top, tree), *filter(None, [os.environ.get("PYTHONPATH")])]
        there = tree / here.relative_to(top)
        there.mkdir(parents=True, exist_ok=True)  # the folder may be newer than the revision
        return subprocess.run(  # noqa: S603 -- pytest itself, with the user's own arguments
            [sys.executable, "-m", "pytest", *arguments],
            cwd=there,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(folders),
                "PYTEST_ADDOPTS": shlex.join(added),
                REVISION_RESULTS: str(folder),
                COMPARED_TREE: str(top),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )

    def _read(self, folder: Path, done: subprocess.CompletedProcess[str]) -> None:
        """Read the results.

        Raises:
            UsageError: the run failed as a whole, or it imported modules of this checkout.
        """
        from pytest_flopsbudget.plugin.at_revision import FOREIGN, PROBLEMS
        from pytest_flopsbudget.storage.report_file import load

        for path in sorted(folder.glob(f"{FOREIGN}-*.json")):
            name, file = next(iter(json.loads(path.read_text(encoding="utf-8")).items()))
            raise UsageError(
                f"the tests of that revision imported {name} from this checkout ({file}), so they would measure this "
                "checkout; add the folder of the package to the setting pythonpath of pytest"
            )
        report = self.results[0]
        if done.returncode not in _HAS_RESULTS or not report.exists():
            shown = "\n".join(f"    {line}" for line in done.stdout.strip().splitlines()[-_SHOWN_LINES:])
            raise UsageError(f"pytest ended with exit code {done.returncode} there. The end of its output:\n{shown}")
        try:
            found = load(report)
        except ReportError as error:
            raise UsageError(str(error)) from error
        self._unmeasured = json.loads((folder / PROBLEMS).read_text(encoding="utf-8"))
        for test in found.tests:
            if test.measurements:
                self._measured[test.nodeid] = {one.name for one in test.measurements}
            elif test.own_failure:
                self._unmeasured[test.nodeid] = "it failed before it measured anything"

    def notes(self, entries: Iterable[Entry], *, complete: bool) -> Iterator[str]:
        """Yield lines on the measurements that only one side has.

        Args:
            entries: The tests of this run.
            complete: Whether this run ran all tests that it selected.
        """
        here = {entry.nodeid: {verdict.name for verdict in entry.verdicts} for entry in entries}
        for nodeid, why in self._unmeasured.items():
            yield f"not compared, because of an error at {self._revision}: {nodeid}: {why}"
        broken = tuple(f"{nodeid}::" for nodeid in self._unmeasured)
        new = [*_only(here, self._measured), *_only_names(here, self._measured)]
        new = [one for one in new if one not in self._unmeasured and not one.startswith(broken)]
        if new:
            yield f"measured only here, not at {self._revision}: {_listed(new)}"
        gone = _only(self._measured, here)
        if gone and complete:
            yield f"measured only at {self._revision}, not here: {_listed(gone)}"


def _only(one: dict[str, set[str]], other: dict[str, set[str]]) -> list[str]:
    return [nodeid for nodeid, names in one.items() if names and nodeid not in other]


def _only_names(one: dict[str, set[str]], other: dict[str, set[str]]) -> list[str]:
    """Return the measurements that only one side makes in tests that both sides have."""
    return [
        f"{nodeid} {name}" for nodeid, names in one.items() if nodeid in other for name in sorted(names - other[nodeid])
    ]


def _listed(names: list[str], most: int = 3) -> str:
    rest = f", and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def moved_argument(argument: str, top: Path, tree: Path) -> str:
    """Return an argument of pytest in which a path in ``top`` becomes the path in ``tree``.

    The path may lead through symbolic links to ``top``. Links below ``top`` stay as named.
    """
    option, value = "", argument
    if argument.startswith("--"):
        option, sign, value = argument.partition("=")
        option += sign
    elif argument.startswith("-"):
        option, value = argument[:2], argument[2:]
    name, colons, test_id = value.partition("::")
    path = Path(name)
    if not path.is_absolute():
        return argument
    for parent in (path, *path.parents):
        if Path(os.path.realpath(parent)) == top:
            return f"{option}{tree / path.relative_to(parent)}{colons}{test_id}"
    return argument


def _moved_folders(top: Path, tree: Path) -> list[str]:
    """Return the folders of ``tree`` from which this process imports the files of ``top``.

    The project may be installed as an editable package: its folder is on `sys.path`, or setuptools maps its packages.
    """
    installed = [os.path.realpath(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    folders = [os.path.realpath(entry) for entry in sys.path]
    for finder in sys.meta_path:
        kind = finder if isinstance(finder, type) else type(finder)
        mapping = getattr(sys.modules.get(kind.__module__), "MAPPING", None)
        if isinstance(mapping, dict):
            folders += [os.path.realpath(os.path.dirname(str(path))) for path in mapping.values()]  # noqa: PTH120
    return [
        str(tree / Path(folder).relative_to(top))
        for folder in dict.fromkeys(folders)
        if Path(folder).is_relative_to(top) and not any(Path(folder).is_relative_to(one) for one in installed)
    ]
