"""Check the paths of the reports that the command line asks for, and write the reports at the end of the run."""

from __future__ import annotations

import os
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pytest_flopsbudget.errors import ReportError, UsageError
from pytest_flopsbudget.safe_text import visible
from pytest_flopsbudget.storage.atomic_file import append_to, find_obstacle, write_report
from pytest_flopsbudget.versions import installed_version, own_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.config.settings import Settings
    from pytest_flopsbudget.results.limits import Limit
    from pytest_flopsbudget.results.report import Report
    from pytest_flopsbudget.storage.run_record import RunRecord


def check_paths(given: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """Return command-line flag → the file to which the report is written.

    Args:
        given: command-line flag → path, as typed in ``folder``.
        folder: the folder where pytest was started.

    Raises:
        UsageError: a path cannot be written to, or two reports have the same path. Some obstacles appear only when
            the report is written.
    """
    paths: dict[str, Path] = {}
    problems = []
    files: dict[str, str] = {}
    for flag, typed in given.items():
        path = folder / os.path.expanduser(typed)  # noqa: PTH111 -- Path.expanduser raises for an unknown user
        file = os.path.realpath(path) if "\0" not in typed else typed
        sharing_flag = next((other for other, known in files.items() if known == file), None)
        files[flag] = file
        if typed in {"", "-"}:
            problems.append(f"{flag}={typed}: names no file; write {flag}=PATH")
        elif path.suffix in {".py", ".toml", ".ini", ".cfg"}:
            problems.append(f"{flag}={typed}: would overwrite a source file; write {flag}=PATH, then the tests")
        elif sharing_flag:
            problems.append(f"{flag}={typed}: {sharing_flag} writes to the same file; name another one")
        elif why := find_obstacle(path):
            problems.append(f"{flag}={typed}: cannot be written: {why}")
        paths[flag] = path
    if problems:
        raise UsageError("\n".join(map(visible, problems)))
    return paths


class PublishedReports(NamedTuple):
    """The result of writing a run's reports."""

    #: One line for each report that could not be written.
    errors: list[str]
    #: Annotations for GitHub Actions, to print in the run's output. Each annotation is one line.
    commands: list[str]


def publish(
    settings: Settings, session: pytest.Session, run_record: RunRecord | None, paths: Mapping[str, Path]
) -> PublishedReports:
    """Write the reports at the end of a run.

    Args:
        settings: the settings in the pyproject.
        session: the run.
        run_record: the measurements of the run; None if nothing was measured.
        paths: the flag of a report → the report's file.
    """
    # The action of this project publishes the report of the run that it starts.
    by_action = bool(os.environ.get("FLOPS_BUDGET_ACTION"))
    on_github = settings.github == "auto" and bool(run_record) and not by_action
    summary = os.environ.get("GITHUB_STEP_SUMMARY") if on_github else None
    annotates = on_github and os.environ.get("GITHUB_ACTIONS") == "true"
    if session.config.option.collectonly or not (paths or summary or annotates):
        return PublishedReports([], [])
    report = _report(session, settings, run_record)
    errors = [error for flag, path in paths.items() for error in _write(report, flag, path)]
    if summary:
        errors += _append_summary(report, Path(summary))
    return PublishedReports(errors, _commands(report, session.config) if annotates else [])


def _write(report: Report, flag: str, path: Path) -> list[str]:
    try:
        write_report(path, _render(flag, report).encode("utf-8", "backslashreplace"))
    except ReportError as error:
        return [f"{flag}: {error}"]
    return []


def _render(flag: str, report: Report) -> str:
    from pytest_flopsbudget.reports.ci import csv, findings, gitlab
    from pytest_flopsbudget.reports.markdown import run
    from pytest_flopsbudget.storage import report_file

    match flag.rpartition("-")[2]:
        case "markdown":
            return run.text(report)
        case "html":
            from pytest_flopsbudget.reports.html import page

            return page.text(report)
        case "csv":
            return csv.text(report)
        case "gitlab":
            return gitlab.text(report)
        case "codequality":
            return findings.code_quality(report)
        case "sarif":
            return findings.sarif(report)
        case _:
            return report_file.dumps(report)


def _append_summary(report: Report, path: Path) -> list[str]:
    """Append the report to the summary of the current GitHub step, and return the errors.

    The report is shortened to the space that is left in the file.
    """
    from pytest_flopsbudget.reports.markdown.markup import STEP_SUMMARY
    from pytest_flopsbudget.reports.markdown.run import text

    try:
        taken = path.stat().st_size if path.exists() else 0
        append_to(path, text(report, maximum=STEP_SUMMARY - taken).encode("utf-8", "backslashreplace"))
    except (OSError, ReportError) as error:
        return [f"GITHUB_STEP_SUMMARY: {error}"]
    return []


def _commands(report: Report, config: pytest.Config) -> list[str]:
    from pytest_flopsbudget.reports.ci.github import commands

    workspace = os.environ.get("GITHUB_WORKSPACE")
    return commands(report, _relative_to(Path(workspace), config.rootpath) if workspace else report.run.root)


def _report(session: pytest.Session, settings: Settings, run_record: RunRecord | None) -> Report:
    from pytest_flopsbudget.results.report import ReportedTest, Run, make_report

    root = session.config.rootpath
    tests = (
        ReportedTest(
            nodeid=entry.nodeid,
            file=_relative_to(root, entry.test_file),
            line=entry.line + 1,
            outcome="passed" if entry.passed else "failed",
            own_failure=entry.own_failure,
            measurements=entry.unpack_verdicts(),
            vanished=entry.vanished,
        )
        for entry in run_record or ()
    )
    update = session.config.getoption("--flops-budget-update")
    run = Run(
        plugin=own_version(),
        pytest=pytest.__version__,
        torch=installed_version("torch"),
        python=python_version(),
        root=_relative_to(top_of_repository(root), root),
        show=settings.show,
        missing_baseline=settings.missing_baseline,
        unknown_operators=settings.unknown_operators,
        exit_status=int(session.exitstatus),
        stopped=bool(session.shouldstop or session.shouldfail or session.exitstatus in _CUT_SHORT),
        update="all" if update is True else update,
        written=tuple(sorted(_relative_to(root, path) for path in run_record.written))
        if run_record is not None
        else (),
        errors=tuple(run_record.errors) if run_record is not None else (),
        total_limits=total_limits_of(settings),
        required_measurements=session.config.getoption("--flops-budget-require") or 0,
    )
    return make_report(run, tests)


def total_limits_of(settings: Settings) -> dict[str, Limit]:
    """Return metric key → limit on the sum over all measurements of a run."""
    from pytest_flopsbudget.results.total import total_limits

    return total_limits(settings.total, f"{settings.file}, [tool.pytest-flopsbudget.total]")


#: The exit codes of runs that stopped before their last test.
_CUT_SHORT = {pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR}


def top_of_repository(folder: Path) -> Path:
    """Return the top folder of the repository that contains ``folder``; ``folder`` itself if there is no repository."""
    return next((above for above in (folder, *folder.parents) if (above / ".git").exists()), folder)


def _relative_to(folder: Path, path: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # the two paths are on different drives
        return path.as_posix()
