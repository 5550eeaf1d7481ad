"""Where the run is controlled: hears of every test, with and without worker processes, and writes the baselines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pytest_flopsbudget.ledger import Ledger
    from pytest_flopsbudget.session import BudgetSession


#: Under which key a worker of pytest-xdist is told the encoding of the terminal, and tells the mistakes that it found.
ENCODING = "flopsbudget_encoding"
MISTAKES = "flopsbudget_mistakes"


def terminal_encoding(config: pytest.Config) -> str | None:
    """The encoding in which the run's terminal is written to; None where it is not known, or there is no terminal."""
    if not config.pluginmanager.has_plugin("terminalreporter"):
        return None
    return getattr(config.get_terminal_writer()._file, "encoding", None)  # noqa: SLF001 -- pytest offers no other way


class Controller:
    """A plugin object of its own, since the hooks that hear of tests are not handed the configuration."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._ledger: Ledger | None = None
        self._mistakes: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what the test measured; its last attempt counts, and it has passed only if its teardown did too."""
        # pytest keeps every report to the end of the run; what is taken over need not stay there too.
        payload = report.__dict__.pop("flops_budget", None)
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
    def pytest_configure_node(self, node: Any) -> None:
        """A worker of pytest-xdist begins; the text of its failures is shown on this process's terminal."""
        node.workerinput[ENCODING] = terminal_encoding(self._config)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of pytest-xdist ended; it may have found mistakes that it could not raise itself."""
        found = getattr(node, "workeroutput", {}).get(MISTAKES, [])
        self._mistakes += [mistake for mistake in found if mistake not in self._mistakes]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """End the run as it ends without workers where these found mistakes."""
        result = yield
        if self._mistakes:
            raise pytest.UsageError("\n".join(self._mistakes))
        return result

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the baselines; where one cannot be written, the exit code tells."""
        if self._ledger is None or not self._config.getoption("--flops-budget-update"):
            return
        self._ledger.update()
        if self._ledger.errors and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        if not self._config.pluginmanager.has_plugin("terminalreporter"):
            # There is no summary to tell it.
            sys.stderr.writelines(f"ERROR: {error}\n" for error in self._ledger.errors)

    def write_summary(self, reporter: pytest.TerminalReporter, session: Callable[[], BudgetSession]) -> None:
        """Write what the run measured to the terminal, if it measured anything."""
        if self._ledger is not None and len(self._ledger):
            session().write_summary(reporter, self._ledger)
