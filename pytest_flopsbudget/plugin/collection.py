"""Record the collected tests, file by file, and whether the collection is complete.

A baseline entry whose test no longer exists is an orphan. Only a complete collection shows that a test does not exist.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flopsbudget.identifiers import FOLDER
from pytest_flopsbudget.plugin.items import item_file, item_nodeid
from pytest_flopsbudget.plugin.xdist import COLLECTION

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence


def prune_refusal(why: str) -> str:
    """Return the message that --flops-budget-prune is refused because of the reason ``why``."""
    return (
        f"--flops-budget-prune: {why}, so it is not known which entries have no test, and nothing was removed; run "
        'without options that leave tests out (-m "" if pytest\'s settings do)'
    )


class CollectedTests:
    """The collected tests of files that have a ``__flops__`` folder beside them, and whether tests were left out.

    This class is no dataclass, because creating a dataclass takes longer than everything else that this plugin does in
    a run without measurements.
    """

    def __init__(
        self,
        files: dict[Path, tuple[str, set[str]]] | None = None,
        unfinished: set[Path] | None = None,
        partial: str = "nothing was collected",
    ) -> None:
        #: Test file → its node id, and the ids of the tests in it.
        self.files = files or {}
        #: Test files whose tests are not all known, for example because an import skipped the rest of the file.
        self.unfinished = unfinished or set()
        #: Why the collection does not contain all tests of the files and folders on the command line; "" if it does.
        self.partial = partial
        #: Lines for the summary on patterns and keys in pyprojects that the run did not use.
        self.notes: list[str] = []
        #: The number of tests with a budget that the run will execute.
        self.budgets = 0
        #: The number of tests with a budget that were deselected.
        self.deselected_budgets = 0

    def to_builtins(self) -> dict[str, Any]:
        """Return this object as plain builtins, which can be sent to another process."""
        return {
            "files": {str(path): [nodeid, sorted(ids)] for path, (nodeid, ids) in self.files.items()},
            "unfinished": sorted(map(str, self.unfinished)),
            "partial": self.partial,
            "notes": self.notes,
            "budgets": self.budgets,
            "deselected_budgets": self.deselected_budgets,
        }

    @classmethod
    def from_builtins(cls, data: Mapping[str, Any]) -> CollectedTests:
        """Make the object from the return value of `to_builtins`."""
        files = {Path(path): (nodeid, set(ids)) for path, (nodeid, ids) in data["files"].items()}
        collected = cls(files, set(map(Path, data["unfinished"])), data["partial"])
        collected.notes = data["notes"]
        collected.budgets = data["budgets"]
        collected.deselected_budgets = data["deselected_budgets"]
        return collected


class CollectionRecorder:
    """A plugin object that records all collected tests, before other plugins deselect tests."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        #: The deselected tests, in the order of their deselection.
        self.deselected: list[pytest.Item] = []
        #: The files and folders whose collection was skipped.
        self.skipped: list[Path] = []
        self._beside_baselines: dict[Path, bool] = {}
        self._errors = 0
        self._tests = 0
        self.collected = CollectedTests()

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Record that a file was collected, or that it could not be collected."""
        report = yield
        self._errors += report.failed
        if report.skipped:
            self.skipped.append(collector.path)
        if self._is_beside_baselines(collector.path):
            if not report.passed:
                self.collected.unfinished.add(collector.path)
            elif isinstance(collector, pytest.File):
                self.collected.files.setdefault(collector.path, (item_file(collector), set()))
        return report

    @property
    def failed(self) -> bool:
        """Return whether pytest failed to collect a file or a folder."""
        return bool(self._errors)

    @property
    def collects_all_it_names(self) -> bool:
        """Return whether the run collects all tests in the files and folders on the command line."""
        option = self._config.getoption
        narrowed = option("lf", default=False) or option("ignore") or option("ignore_glob") or option("pyargs")
        return not (self._errors or narrowed or option("collectonly") or option("--flops-budget-explain"))

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Record a collected test."""
        self._tests += 1
        if item.path in self.collected.files:
            self.collected.files[item.path][1].add(item_nodeid(item).partition("::")[2])

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Record deselected tests."""
        self.deselected += items

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Decide whether the collection is complete.

        A worker of pytest-xdist also sends the collected tests to the controlling process.
        """
        self.collected.partial = self.why_partial(session.items)
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput[COLLECTION] = self.collected.to_builtins()

    def prune_refusal(self, selected: Sequence[pytest.Item]) -> str:
        """Return why --flops-budget-prune is refused before the tests run; "" if no reason is known yet."""
        # If files cannot be collected, pytest itself ends the run.
        why = self.why_partial(selected)
        return "" if self._errors or not why else prune_refusal(why)

    def why_partial(self, selected: Sequence[pytest.Item]) -> str:
        """Return why ``selected`` are not all tests in the files and folders on the command line; "" if they are."""
        named = next((arg for arg in self._config.args if "::" in arg), None)
        if named is not None:
            return f"{named} is a part of its file"
        if self._config.getoption("lf", default=False):
            # pytest does not report which files it left out without a failure.
            return "--lf leaves tests out"
        if self._config.getoption("collectonly"):
            return "--collect-only runs nothing"
        if self._errors:
            return "not everything could be collected"
        left_out = self._tests - len(selected)
        return f"{left_out} of {self._tests} tests were deselected" if left_out else ""

    def _is_beside_baselines(self, path: Path) -> bool:
        folder = path.parent
        if folder not in self._beside_baselines:
            self._beside_baselines[folder] = (folder / FOLDER).is_dir()
        return self._beside_baselines[folder]
