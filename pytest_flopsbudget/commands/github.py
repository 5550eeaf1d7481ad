"""``github REPORT``: publish a report from a workflow of GitHub Actions: job summary, annotations, one comment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pytest_flopsbudget.commands.console import Output
    from pytest_flopsbudget.commands.github_api import GitHubApi
    from pytest_flopsbudget.commands.github_event import PullRequest
    from pytest_flopsbudget.results.report import Report

SUMMARY = "publish a report on GitHub: job summary, annotations, and a comment"
DESCRIPTION = """\
Publish a report from a workflow of GitHub Actions: in the job summary, as annotations, and as one comment on the pull
request, which later runs update. The action of this project calls this command. The comment needs GITHUB_TOKEN in the
environment, with the permission `pull-requests: write`. Without this permission, as in a pull request from a fork, no
comment is written, and a line says so. In a workflow on workflow_run, the comment is for the pull request of that run.
"""
EXAMPLES = """\
examples:
  flopsbudget github run.json
  flopsbudget github run.json --publish summary,annotations
  flopsbudget github run.json --publish comment --name gpu
"""

_PARTS = ("summary", "annotations", "comment")
_FORBIDDEN = 403


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``github`` to ``parser``."""
    parser.add_argument("report", metavar="REPORT", help="a report that --flops-budget-json wrote")
    parser.add_argument(
        "--publish",
        metavar="LIST",
        default=",".join(_PARTS),
        help="what to publish: summary, annotations, comment; all of them by default",
    )
    parser.add_argument(
        "--name", default="default", help="tells comments of several jobs apart: each name has one comment"
    )
    parser.add_argument(
        "--author",
        metavar="LOGIN",
        default="github-actions[bot]",
        help="the account of the token; only its comments are updated (default: %(default)s)",
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Publish the report.

    Returns:
        0, also if there is no pull request, or if the token may not write; 1 if the comment could not be written.

    Raises:
        UsageError: the report cannot be read, an argument is wrong, or a variable of GitHub Actions is missing.
    """
    from pytest_flopsbudget.commands.github_api import GitHubApi
    from pytest_flopsbudget.storage import report_file

    parts = _parts(arguments.publish)
    marker = _marker(arguments.name)
    report = report_file.load(Path(arguments.report))
    if "summary" in parts:
        _append_summary(report, Path(_variable("GITHUB_STEP_SUMMARY")), output)
    if "annotations" in parts:
        from pytest_flopsbudget.reports.ci.github import commands

        output.lines(commands(report, report.run.root))
    if "comment" in parts:
        api = GitHubApi(_variable("GITHUB_API_URL"), _variable("GITHUB_TOKEN"))
        return _comment(report, marker, arguments.author, api, output)
    return 0


def _parts(text: str) -> Sequence[str]:
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if part not in _PARTS:
            raise UsageError(f"--publish {text}: no part {part!r}; there are {', '.join(_PARTS)}")
    return parts


def _marker(name: str) -> str:
    """Return the first line of the comment. A comment of HTML is not shown."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name):
        raise UsageError(f"--name {name}: write 1 to 100 letters, digits, dots, dashes and underscores")
    return f"<!-- pytest-flopsbudget: {name} -->"


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if value:
        return value
    hint = "; in the step, write env: {GITHUB_TOKEN: '${{ github.token }}'}" if name == "GITHUB_TOKEN" else ""
    raise UsageError(f"{name} is not set: this command runs in a workflow of GitHub Actions{hint}")


def _append_summary(report: Report, path: Path, output: Output) -> None:
    from pytest_flopsbudget.reports.markdown.markup import STEP_SUMMARY
    from pytest_flopsbudget.reports.markdown.run import text
    from pytest_flopsbudget.storage.atomic_file import append_to

    taken = path.stat().st_size if path.exists() else 0
    append_to(path, text(report, maximum=STEP_SUMMARY - taken).encode("utf-8", "backslashreplace"))
    output.line("job summary written")


def _comment(report: Report, marker: str, author: str, api: GitHubApi, output: Output) -> int:
    from pytest_flopsbudget.commands.github_api import ApiError
    from pytest_flopsbudget.commands.github_event import NoPullRequestError, find_pull_request, read_event

    repository, run_number = _variable("GITHUB_REPOSITORY"), _variable("GITHUB_RUN_ID")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository) or not run_number.isdecimal():
        raise UsageError(f"GITHUB_REPOSITORY={repository}, GITHUB_RUN_ID={run_number}: write OWNER/NAME and a number")
    event = read_event(Path(_variable("GITHUB_EVENT_PATH")))
    try:
        pull = find_pull_request(_variable("GITHUB_EVENT_NAME"), event, api, repository=repository, run=int(run_number))
    except NoPullRequestError as reason:
        output.line(f"no comment: {reason}")
        return 0
    except ApiError as error:
        output.error(f"error: no comment: {error}")
        return 1
    try:
        done = _write(api, f"/repos/{repository}/issues", pull.number, _body(report, marker, repository, pull), author)
    except ApiError as error:
        if error.status != _FORBIDDEN:
            output.error(f"error: no comment on pull request #{pull.number}: {error}")
            return 1
        _explain_forbidden(error, output, fork=pull.head.repository != repository)
        return 0
    output.line(f"comment {done} on pull request #{pull.number}")
    return 0


def _write(api: GitHubApi, issues: str, number: int, body: str, author: str) -> str:
    """Write the comment. Only a comment of ``author`` is updated: anyone can write a comment with the same marker."""
    marker = body.partition("\n")[0]
    for comment in api.items(f"{issues}/{number}/comments"):
        written_by = (comment.get("user") or {}).get("login")
        if written_by == author and str(comment.get("body") or "").startswith(marker):
            api.send("PATCH", f"{issues}/comments/{int(comment['id'])}", {"body": body})
            return "updated"
    api.send("POST", f"{issues}/{number}/comments", {"body": body})
    return "written"


def _body(report: Report, marker: str, repository: str, pull: PullRequest) -> str:
    from pytest_flopsbudget.reports.markdown.markup import COMMENT
    from pytest_flopsbudget.reports.markdown.run import text

    url = f"{_variable('GITHUB_SERVER_URL')}/{repository}/actions/runs/{pull.run}"
    foot = f"Measured by [run {pull.run}]({url}) at commit {pull.head.sha[:10]}.\n"
    return f"{marker}\n{text(report, maximum=COMMENT - len(marker) - len(foot))}\n{foot}".encode(
        "utf-8", "backslashreplace"
    ).decode()


def _explain_forbidden(error: UsageError, output: Output, *, fork: bool) -> None:
    """Write why the token may not write the comment, and what to do."""
    if fork:
        output.line(f"no comment: {error}; a run for a fork may not write one, a workflow on workflow_run may")
        return
    from pytest_flopsbudget.reports.ci.github import annotation

    text = f"{error}; give the job `permissions: pull-requests: write`, or publish no comment"
    output.lines([annotation("warning", "flops budget: no comment", text)])
