"""The plugin of the run that measures another revision: ``-p pytest_flopsbudget.plugin.at_revision``.

That run gets the arguments of the run that compares. This plugin adapts the arguments to the other revision.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flopsbudget.plugin.xdist import COMPARED_TREE, REVISION_RESULTS

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The names of files in the folder for results.
REPORT, PROBLEMS, FOREIGN = "report.json", "problems.json", "foreign"
#: Options that would select tests by an earlier run, stop the run early, or write files of the compared run.
_OPTIONS = {
    "maxfail": 0, "xmlpath": None, "htmlpath": None, "json_report_file": None, "report_log": None, "basetemp": None,
    "lf": False, "failedfirst": False, "newfirst": False, "stepwise": False, "cacheclear": False,
    "continue_on_collection_errors": True,
}  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Change the options of this run, before other plugins read them."""
    options = vars(config.option)
    options.update({name: value for name, value in _OPTIONS.items() if name in options})
    ours = [name for name in options if name.startswith("flops_budget_") and name != "flops_budget_model"]
    options.update(dict.fromkeys(ours))
    folder = Path(os.environ[REVISION_RESULTS])
    config.pluginmanager.register(Selection(config), "flopsbudget-selection")
    if not hasattr(config, "workerinput"):
        options["flops_budget_json"] = str(folder / REPORT)
        config.pluginmanager.register(_Problems(folder / PROBLEMS), "flopsbudget-problems")


class Selection:
    """Runs the tests on the command line that exist in this revision. pytest itself would refuse the others."""

    def __init__(self, config: pytest.Config) -> None:
        #: Test file → the ids in it that the command line names; empty for all tests of the file.
        self._ids: dict[Path, set[str]] = {}
        paths = []
        for arg in config.args:
            name, _, test_id = arg.partition("::")
            path = Path(os.path.abspath(config.invocation_params.dir / name))  # noqa: PTH100 -- links stay as named
            if path.exists():
                paths.append(name)
                self._ids.setdefault(path, set()).add(test_id)
        config.args[:] = dict.fromkeys(paths)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect the tests that the command line does not name."""
        left = [item for item in items if not self._is_named(item)]
        if left:
            config.hook.pytest_deselected(items=left)
            items[:] = [item for item in items if self._is_named(item)]

    def _is_named(self, item: pytest.Item) -> bool:
        named = self._ids.get(item.path, set())
        test_id = item.nodeid.partition("::")[2]
        return not named or "" in named or any(_is_part(test_id, one) for one in named)


def _is_part(test_id: str, named: str) -> bool:
    return test_id == named or test_id.startswith((f"{named}::", f"{named}["))


class _Problems:
    """Notes the test files that cannot be imported in this revision."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: Node id → the last line of the error.
        self._errors: dict[str, str] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            lines = [line for line in report.longreprtext.splitlines() if line.strip()]
            self._errors[report.nodeid] = lines[-1].removeprefix("E").strip() if lines else "no reason given"

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps(self._errors), encoding="utf-8")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Note the modules that this process imported from the compared tree, which has the code of another revision."""
    found = foreign_modules(Path(os.environ[COMPARED_TREE]), [sys.prefix, sys.base_prefix])
    if found:
        path = Path(os.environ[REVISION_RESULTS]) / f"{FOREIGN}-{os.getpid()}.json"
        path.write_text(json.dumps(found), encoding="utf-8")


def foreign_modules(tree: Path, installations: Sequence[str]) -> dict[str, str]:
    """Return name → file of the imported modules from ``tree``. Installed packages and this plugin are left out."""
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or name.partition(".")[0] == "pytest_flopsbudget":
            continue
        path = Path(os.path.realpath(file))
        if path.is_relative_to(tree) and not any(path.is_relative_to(one) for one in installations):
            found[name] = path.relative_to(tree).as_posix()
    return found
