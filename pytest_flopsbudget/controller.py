"""Where the run is controlled: hears of every test, with and without worker processes, and writes the baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flopsbudget.ledger import Ledger
    from pytest_flopsbudget.session import BudgetSession


class Controller:
    """A plugin object of its own, since the hooks that hear of tests are not handed the configuration."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._ledger: Ledger | None = None
        self._mistakes: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what the test measured; its last attempt counts, and it has passed only if its teardown did too."""
        payload = getattr(report, "flops_budget", None)
        if payload is not None and report.outcome in {"passed", "failed"}:
            if self._ledger is None:
                from pytest_flopsbudget.ledger import Ledger  # noqa: PLC0415 -- brings msgspec

                self._ledger = Ledger()
            self._ledger.record(report.nodeid, payload, passed=report.passed)
        elif self._ledger is not None and report.when == "setup":
            self._ledger.forget(report.nodeid)
        elif self._ledger is not None and report.failed:
            self._ledger.fail(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of pytest-xdist ended; it may have found mistakes that it could not raise itself."""
        found = getattr(node, "workeroutput", {}).get("flopsbudget_mistakes", [])
        self._mistakes += [mistake for mistake in found if mistake not in self._mistakes]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the baselines, and let the exit code tell what the workers and the files said."""
        if self._ledger is not None and self._config.getoption("--flops-budget-update"):
            self._ledger.update()
        errors = self._ledger is not None and self._ledger.errors
        if self._mistakes or (errors and session.exitstatus == pytest.ExitCode.OK):
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def write_summary(self, reporter: pytest.TerminalReporter, session: Callable[[], BudgetSession]) -> None:
        """Write what the run measured to the terminal, if it measured anything."""
        for mistake in self._mistakes:
            reporter.write_line(f"ERROR: {mistake}", red=True)
        if self._ledger is not None and len(self._ledger):
            session().write_summary(reporter, self._ledger)
