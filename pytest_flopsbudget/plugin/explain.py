"""Select the one test that --flops-budget-explain names, and find the measurements to show.

The controlling process and every worker select the same test. The controlling process writes the pages.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flopsbudget.identifiers import is_below, is_model, near_nodeids
from pytest_flopsbudget.plugin.items import as_typed, item_nodeid
from pytest_flopsbudget.safe_text import visible
from pytest_flopsbudget.targets.grammar import with_plain_signs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pytest_flopsbudget.plugin.collection import CollectionRecorder
    from pytest_flopsbudget.storage.run_record import Entry


FLAG = "--flops-budget-explain"
#: The maximum number of node ids in a message.
_MAX_NAMED = 5
_HOW = "write FILE::TEST as pytest prints it, or FILE::TEST:NAME for one of its measurements"
_ENDED_EARLY = {pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR}


def split_name(asked: str, nodeids: Iterable[str]) -> tuple[str, str | None] | None:
    """Split the user's text into a node id and the name of a measurement. If no node id matches, return None.

    The node id and the name may both contain colons. If the whole text is a node id, it names no measurement. If
    several splits are possible, the longest node id is used.
    """
    nodeids = set(nodeids)
    if asked in nodeids:
        return asked, None
    ends = [end for end in range(len(asked) - 1, 0, -1) if asked[end] == ":" and asked[:end] in nodeids]
    return next(((asked[:end], asked[end + 1 :]) for end in ends if not asked.startswith("::", end)), None)


class ExplainPlugin:
    """A plugin object that selects the test, keeps its outcome, and finds the measurements that the user asked for.

    Args:
        config: the run's configuration.
        collection_recorder: the recorder, which knows whether everything could be collected.

    Raises:
        UsageError: the user named no test, or a test in a file that does not exist.
    """

    def __init__(self, config: pytest.Config, collection_recorder: CollectionRecorder) -> None:
        self._config = config
        self._collection_recorder = collection_recorder
        asked: str = config.getoption(FLAG)
        self._asked = with_plain_signs(asked) if is_model(asked) else asked
        #: Why the test cannot be explained. The hook at the end of the run reports these messages.
        self.mistakes: list[str] = []
        self._last: pytest.TestReport | None = None
        file, separator, test = self._asked.partition("::")
        if not (file and separator and test):
            raise pytest.UsageError(visible(f"{FLAG}={self._asked}: names no test; {_HOW}"))
        self._narrow(file)

    def _narrow(self, file: str) -> None:
        """Make pytest collect only the file of the test, unless the command line names other files or tests."""
        config = self._config
        here = config.invocation_params.dir
        if is_model(self._asked):
            config.args = []
            return
        path = _found(file, here, config.rootpath)
        if path is None:
            problem = f"{FLAG}={self._asked}: there is no file {file}{_near_files(file, here)}; {_HOW}"
            raise pytest.UsageError(visible(problem))
        folders = (_absolute(here, arg) for arg in config.args if "::" not in arg)
        if config.args_source is not pytest.Config.ArgsSource.ARGS or any(
            folder.is_dir() and path.is_relative_to(folder) for folder in folders
        ):
            try:
                config.args = [os.path.relpath(path, here)]
            except ValueError:  # the two paths are on different drives
                config.args = [str(path)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep only the selected test. This runs before other plugins deselect tests."""
        nodeids = [item_nodeid(item) for item in items]
        found = self._meant(nodeids)
        if found is None and not self._collection_recorder.failed:
            self.mistakes.append(self._unknown([as_typed(nodeid, config) for nodeid in nodeids]))
            return
        meant = found[0] if found is not None else None
        left_out = [item for item, nodeid in zip(items, nodeids, strict=True) if nodeid != meant]
        items[:] = [item for item, nodeid in zip(items, nodeids, strict=True) if nodeid == meant]
        if left_out:
            config.hook.pytest_deselected(items=left_out)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the report of the last phase that did not pass. If every phase passed, keep the report of the setup."""
        if report.when == "setup" or not report.passed:
            self._last = report

    def pages(self, entries: Iterable[Entry]) -> list[tuple[Entry, str | None]]:
        """Return (entry, name of the measurement to show) for each entry to explain. None shows all measurements."""
        entries = list(entries)
        nodeid, name = self._meant(entry.nodeid for entry in entries) or ("", None)
        return [(entry, name) for entry in entries if entry.nodeid == nodeid]

    def problem(self, entries: Sequence[Entry], session: pytest.Session) -> str:
        """Return why no measurement can be explained; "" if one can be explained, or if pytest reports the reason."""
        if self.mistakes or session.config.option.collectonly or session.exitstatus in _ENDED_EARLY:
            return ""
        for entry, name in self.pages(entries):
            names = [verdict.name for verdict in entry.verdicts]
            if names and (name is None or name in names):
                return ""
            if names:
                return f"{FLAG}={self._asked}: the test measured nothing named {name!r}, but {', '.join(names)}"
        return f"{FLAG}={self._asked}: {self._why_nothing()}"

    def _why_nothing(self) -> str:
        report = self._last
        if report is None:
            return "the test was not run: -k, -m or another plugin leaves it out"
        if report.failed:
            return "the test failed before it measured anything; its failure is shown above"
        if report.skipped:
            return "the test was skipped, or failed as expected, so it has no measurement to explain"
        return (
            "the test measured nothing; measure in it with the flops_budget fixture, or have it watched: "
            '@pytest.mark.flops_budget, or watch = ["..."] in the pyproject'
        )

    def _unknown(self, nodeids: Collection[str]) -> str:
        below = [nodeid for nodeid in nodeids if is_below(nodeid, self._asked)]
        if below:
            named = ", ".join(below[:_MAX_NAMED]) + (", ..." if len(below) > _MAX_NAMED else "")
            return f"{FLAG}={self._asked}: matches {len(below):,} tests, but only one can be explained: {named}"
        file = self._asked.partition("::")[0]
        beside = [nodeid for nodeid in nodeids if nodeid.startswith(f"{file}::")]
        return (
            f"{FLAG}={self._asked}: no such test was collected; {near_nodeids(self._asked, beside or nodeids)}; {_HOW}"
        )

    def _meant(self, nodeids: Iterable[str]) -> tuple[str, str | None] | None:
        """Return the node id and the measurement's name that the user asked for; None if no node id matches.

        The user may write the node id relative to the current folder or relative to the root folder.
        """
        own = {nodeid: nodeid for nodeid in nodeids}
        typed = {as_typed(nodeid, self._config): nodeid for nodeid in own}
        for spellings in (typed, own):
            found = split_name(self._asked, spellings)
            if found is not None:
                return spellings[found[0]], found[1]
        return None


def _absolute(folder: Path, path: str) -> Path:
    # Symbolic links are not followed, because pytest's node ids do not follow them.
    return Path(os.path.normpath(folder / path))


def _found(file: str, *folders: Path) -> Path | None:
    """Return the path of the file in the first folder that contains the file; None if no folder does."""
    try:
        return next((path for folder in folders if (path := _absolute(folder, file)).exists()), None)
    except (OSError, ValueError):  # no file can have this name
        return None


def _near_files(file: str, here: Path) -> str:
    """Return a hint with files of similar names in the same folder; "" if there are none."""
    import difflib

    folder, _, name = file.rpartition("/")
    try:
        names = [path.name for path in (here / folder).glob("*.py")]
    except (OSError, ValueError):
        return ""
    found = difflib.get_close_matches(name, names, n=3)
    return f", but {', '.join(f'{folder}/{one}' if folder else one for one in found)}" if found else ""
