"""The controlling process: receive every test's report, with and without workers; write baselines and reports."""

from __future__ import annotations

import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import TerminalRepr

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.plugin.collection import CollectedTests, prune_refusal
from pytest_flopsbudget.plugin.xdist import COLLECTION, ENCODING, PROBLEMS, SECTION, terminal_encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from typing import Literal

    from _pytest._io import TerminalWriter

    from pytest_flopsbudget.plugin.explain import ExplainPlugin
    from pytest_flopsbudget.plugin.session import BudgetSession
    from pytest_flopsbudget.storage.run_record import Entry, RunRecord


class Controller:
    """The plugin object of the controlling process, which receives the reports of all tests.

    The object keeps the configuration, because pytest passes no configuration to the hooks for test reports.
    """

    def __init__(
        self,
        config: pytest.Config,
        get_session: Callable[[], BudgetSession],
        collected: CollectedTests,
        reports: Mapping[str, Path],
        explain_plugin: ExplainPlugin | None = None,
    ) -> None:
        self._config = config
        #: Returns the settings and baselines of the run. Its first call imports the files that read them.
        self._get_session = get_session
        self._collected = collected
        #: The flag of a report → the report's file.
        self._reports = reports
        #: The plugin that selects the test to explain; None if no test is explained.
        self._explain_plugin = explain_plugin
        #: Errors for the summary. Each one says why a report could not be written, or why a test could not be
        #: explained.
        self._unwritten: list[str] = []
        #: Reasons why the run fails as a whole.
        self._failures: list[str] = []
        #: Sums of the run that are beyond a warning.
        self._warnings: list[str] = []
        #: Annotations for GitHub Actions. They are written after the summary.
        self._commands: list[str] = []
        self._run_record: RunRecord | None = None
        #: Test with a budget that was skipped or failed as expected → which of the two happened.
        self._skipped: dict[str, str] = {}
        self._problems: list[str] = []
        #: Tests with a part, such as a subtest, that failed in a separate report, before or after the report of the
        #: test.
        self._failed_in_part: set[str] = set()
        #: Whether the run ended normally. The exit code does not show this, because pytest.exit() may set any exit
        #: code.
        self._ran_through = False

    @pytest.hookimpl(tryfirst=True)  # the text changes before another plugin, such as that of JUnit, stores it
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a test's measurements from the test's report.

        If a test runs several times, only its last run counts. A test passed only if its teardown passed as well.
        """
        # pytest keeps every report until the run ends, so the verdicts are removed from the report to save memory. Two
        # files outside of the root folder may have tests with one node id, so the file is part of the key.
        key = report.__dict__.get("flops_budget_file", "") + report.nodeid
        payload = report.__dict__.pop("flops_budget", None)
        skipped = report.__dict__.pop("flops_budget_skipped", "")
        self._show_failure(report, payload)
        if skipped:
            self._skipped[key] = skipped
        elif report.when == "setup":
            self._skipped.pop(key, None)
        if payload is not None and report.outcome in {"passed", "failed"}:
            self._get_run_record().record(key, payload, passed=report.passed)
            if report.failed and not payload["verdicts"]:
                # A part of the test may fail before the test's own report has measurements.
                self._failed_in_part.add(key)
        elif report.when == "setup":
            self._failed_in_part.discard(key)
            if self._run_record is not None:
                self._run_record.forget(key)
        elif report.failed:
            self._failed_in_part.add(key)
        if self._run_record is not None and key in self._failed_in_part:
            self._run_record.fail(key)

    def _show_failure(self, report: pytest.TestReport, payload: Mapping[str, Any] | None) -> None:
        """Make pytest show why a test breaks its budget, as the terminal needs it.

        Workers of pytest-xdist do not know each other's failures, so the texts that they send are replaced.
        """
        has_text = report.__dict__.pop("flops_budget_text", False)
        text = self._text_on_all_workers(payload) if payload is not None and hasattr(report, "node") else ""
        if has_text:
            self._emphasize(report.longrepr, text)
        elif text:
            report.sections = [(head, text if head == SECTION else body) for head, body in report.sections]

    def _text_on_all_workers(self, payload: Mapping[str, Any]) -> str:
        """Return the text on a test's broken budget, which refers to earlier tests of all workers of pytest-xdist.

        Return "" if the budget is not broken.
        """
        if not any(verdict["fails"] for verdict in payload["verdicts"]):
            return ""
        from pytest_flopsbudget.storage.run_record import unpack_verdicts

        own_failure = payload.get("own_failure", False)
        return self._get_session().explain(payload["nodeid"], unpack_verdicts(payload), own_failure=own_failure)

    def _emphasize(self, shown: object, text: str) -> None:
        """Make the terminal show the text of this plugin with bold and red words, and with ``--tb=line`` on one line.

        The text itself stays plain for other reports. A worker of pytest-xdist sends plain text, so this is done in the
        controlling process.

        Args:
            shown: the text in the form of pytest.
            text: another text that replaces it; "" for none.
        """
        if not isinstance(shown, TerminalRepr):
            return
        lines = (text or str(shown)).splitlines()

        def write(writer: TerminalWriter) -> None:
            from pytest_flopsbudget.reports.terminal.emphasis import emphasize

            if self._config.option.tbstyle == "line" and writer is self._config.get_terminal_writer():
                # pytest itself writes one line, which ends with the first line of the text.
                return
            bold, red = partial(writer.markup, bold=True), partial(writer.markup, red=True)
            for line in emphasize(lines, bold, red, writer.fullwidth):
                writer.line(line)

        vars(shown)["toterminal"] = write

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of pytest-xdist the encoding of the terminal, which will show the worker's failures."""
        node.workerinput[ENCODING] = terminal_encoding(self._config)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Receive the tests that a worker of pytest-xdist collected, and the mistakes that the worker found."""
        output = getattr(node, "workeroutput", {})
        self._problems += [problem for problem in output.get(PROBLEMS, []) if problem not in self._problems]
        if COLLECTION in output:
            # All workers collect the same tests; otherwise the run fails. A worker that crashed sends nothing.
            self._collected = CollectedTests.from_builtins(output[COLLECTION])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Raise a usage error for mistakes that workers found."""
        result = yield
        if self._problems:
            raise pytest.UsageError(_lines(self._problems))
        self._ran_through = True
        return result

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write and prune the baselines, then write the reports. Set the exit code if a file cannot be written."""
        self._update(session)
        self._judge_run(session)
        self._report(session)
        self._explain(session)

    def _update(self, session: pytest.Session) -> None:
        update: Literal["all", "new", "improved"] | None = self._config.getoption("--flops-budget-update")
        if update is not None and self._run_record is not None:
            self._run_record.update(None if update == "all" else update)
        # With --flops-budget-compare, the run reads no baselines, so it has no orphans.
        if (
            not self._config.getoption("--flops-budget-disable")
            and self._config.getoption("--flops-budget-compare") is None
        ):
            self._look_for_orphans(session)
        if self._run_record is not None:
            self._report_errors(self._run_record.errors, session)

    def _judge_run(self, session: pytest.Session) -> None:
        """Fail the run if it is over a limit on its total, or if it measured less than --flops-budget-require asks."""
        if self._config.getoption("--flops-budget-disable") or session.config.option.collectonly:
            return
        required = self._config.getoption("--flops-budget-require") or 0
        entries = [*(self._run_record or ())]
        measured = sum(len(entry.verdicts) for entry in entries)
        if measured < required:
            from pytest_flopsbudget.reports.headline import required_words

            self._failures.append(required_words(measured, required))
        if entries and self._get_session().settings.total:
            from pytest_flopsbudget.plugin.report_writer import total_limits_of
            from pytest_flopsbudget.reports.broken_limits import total_lines, warning_lines
            from pytest_flopsbudget.results.total import check_total

            limits = total_limits_of(self._get_session().settings)
            checked = check_total(limits, (verdict.complexity for entry in entries for verdict in entry.verdicts))
            self._failures += total_lines(checked.broken)
            self._warnings += [f"total of the run: {line}" for line in warning_lines(checked.warned)]
        if self._failures and session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _report(self, session: pytest.Session) -> None:
        if self._run_record is None and not self._reports:
            return
        # These imports are here because most runs of pytest measure nothing and need none of them.
        from pytest_flopsbudget.config.settings import Settings
        from pytest_flopsbudget.plugin import report_writer

        try:
            settings = self._get_session().settings
        except UsageError:
            # pytest has shown the error before the first test, and no test ran.
            settings = Settings()
        published = report_writer.publish(settings, session, self._run_record, self._reports)
        self._commands = published.commands
        self._unwritten = published.errors
        self._report_errors(published.errors, session)
        if not self._config.pluginmanager.has_plugin("terminalreporter"):
            sys.stdout.writelines(f"{command}\n" for command in published.commands)

    def _explain(self, session: pytest.Session) -> None:
        problem = (
            "" if self._explain_plugin is None else self._explain_plugin.problem([*(self._run_record or ())], session)
        )
        if problem:
            self._unwritten.append(problem)
            self._report_errors([problem], session)

    def _report_errors(self, errors: Sequence[str], session: pytest.Session) -> None:
        """Set the exit code if there are errors. If pytest has no terminal reporter, print the errors."""
        if errors and session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        if not self._config.pluginmanager.has_plugin("terminalreporter"):
            sys.stderr.writelines(f"{_lines([f'ERROR: {error}'])}\n" for error in errors)

    def _look_for_orphans(self, session: pytest.Session) -> None:
        """After a complete run, find baseline entries without a test. --flops-budget-prune removes these entries."""
        prune = self._config.getoption("--flops-budget-prune")
        why = self._collected.partial
        if not (why or self._ran_through):
            why = "the run stopped early"
        if why:
            if prune and session.exitstatus != pytest.ExitCode.USAGE_ERROR:
                self._get_run_record().errors.append(prune_refusal(why))
            return
        if not (prune or self._run_record is not None or self._collected.files):
            # Nothing was measured, and no collected test file has baselines.
            return
        run_record = self._get_run_record()
        tests = {file: known for file, known in self._collected.files.items() if file not in self._collected.unfinished}
        run_record.find_orphans(tests, self._without_test_file())
        if prune:
            run_record.prune()

    def _without_test_file(self) -> dict[Path, str]:
        """Return baseline file → node id of its missing test file, for the folders on the command line."""
        from pytest_flopsbudget.storage.orphans import find_files_without_test

        config = self._config
        here = config.invocation_params.dir
        # Path.is_dir raises an error for a name that is too long. A node id may be that long.
        folders = [folder for arg in config.args if os.path.isdir(folder := here / arg)]  # noqa: PTH112
        ignored = [str(here / path) for path in config.getoption("ignore") or ()]
        skipped = [*config.getini("norecursedirs"), *ignored, *(config.getoption("ignore_glob") or ())]
        found = {}
        for path in find_files_without_test(folders, skipped):
            file = path.parent.parent / f"{path.stem}.py"
            found[path] = Path(os.path.relpath(file, config.rootpath)).as_posix()
        return found

    def _get_run_record(self) -> RunRecord:
        if self._run_record is None:
            from pytest_flopsbudget.plugin.report_writer import top_of_repository
            from pytest_flopsbudget.storage.run_record import RunRecord

            self._run_record = RunRecord(top_of_repository(self._config.rootpath))
        return self._run_record

    def entries(self) -> list[Entry]:
        """Return the tests that this run recorded, sorted by file and line."""
        return [*(self._run_record or ())]

    @property
    def is_complete(self) -> bool:
        """Whether the run ended normally and left out no test of the files that it collected."""
        return self._ran_through and not self._collected.partial

    def _notes(self) -> Iterator[str]:
        """Yield the lines on unused patterns, and a line if every test with a budget was skipped or deselected."""
        if not self._ran_through:
            return
        yield from self._collected.notes
        deselected = self._collected.deselected_budgets
        total = self._collected.budgets + deselected
        if not total or len(self._skipped) + deselected < total or self._explain_plugin is not None:
            return
        counts = Counter(self._skipped.values())
        counts["deselected"] = deselected
        words = ", ".join(f"{number:,} {word}" for word, number in counts.items() if number)
        tests = "the one test" if total == 1 else f"the {total:,} tests"
        yield f"no flops budget was checked: of {tests} with a budget, {words}"

    def write_summary(self, reporter: pytest.TerminalReporter) -> None:
        """Write the summary, the page of the explained test, errors, and annotations for GitHub Actions."""
        if self._run_record is not None and (
            len(self._run_record) or self._run_record.orphans or self._run_record.errors
        ):
            from pytest_flopsbudget.plugin.summary import write_summary

            session = self._get_session()
            write_summary(reporter, self._run_record, session.settings_of, session.settings.show, session.accepts)
        for line in self._notes():
            reporter.write_line(_lines([line]))
        if self._explain_plugin is not None and self._run_record is not None:
            from pytest_flopsbudget.plugin.summary import write_page

            for entry, name in self._explain_plugin.pages(self._run_record):
                write_page(reporter, entry, name, self._get_session().settings_of(entry.test_file))
        for line in self._warnings:
            reporter.write_line(_lines([line]), yellow=True)
        for line in self._failures:
            reporter.write_line(_lines([f"FAILED: {line}"]), red=True)
        for error in self._unwritten:
            reporter.write_line(_lines([f"ERROR: {error}"]), red=True)
        for command in self._commands:
            reporter.write_line(command)


def _lines(messages: Sequence[str]) -> str:
    """Return the messages as one text, one message per line. Unprintable characters are escaped."""
    from pytest_flopsbudget.safe_text import visible

    return "\n".join(visible(line) for message in messages for line in message.split("\n"))
