"""The event that started a workflow of GitHub Actions → the pull request to comment on.

A workflow on ``workflow_run`` may write comments, and its report comes from a run of a fork's code, so nothing in the
report chooses the pull request. GitHub is asked for the open pull requests of the run's branch. Repository, branch and
commit have to be those of the run.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_flopsbudget.commands.github_api import GitHubApi


@dataclass(frozen=True)
class Head:
    """The branch of a pull request: its repository ("owner/name"), its name, and the commit that was measured."""

    repository: str
    branch: str
    sha: str


@dataclass(frozen=True)
class PullRequest:
    """A pull request, the commit that was measured, and the number of the run that measured it."""

    number: int
    head: Head
    run: int


class NoPullRequestError(Exception):
    """There is no pull request to comment on. The text gives the reason."""


def read_event(path: Path) -> dict[str, Any]:
    """Read the file that ``GITHUB_EVENT_PATH`` names.

    Raises:
        UsageError: the file cannot be read, or it holds no JSON object.
    """
    try:
        event = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"GITHUB_EVENT_PATH={path}: cannot be read: {error}") from error
    if not isinstance(event, dict):
        raise UsageError(f"GITHUB_EVENT_PATH={path}: is no JSON object")
    return event


def find_pull_request(name: str, event: Mapping[str, Any], api: GitHubApi, *, repository: str, run: int) -> PullRequest:
    """Return the open pull request that the event is about.

    Args:
        name: the name of the event, such as "pull_request" or "workflow_run".
        event: the event, as GitHub describes it.
        api: sends requests.
        repository: "owner/name" of the repository in which the workflow runs.
        run: the number of the present run. For "workflow_run" the number of the run in the event is taken.

    Raises:
        NoPullRequestError: the event belongs to no open pull request of this repository, or not to its newest commit.
        UsageError: the event lacks a value.
        ApiError: GitHub refuses a request.
    """
    try:
        if name == "workflow_run":
            return _of_workflow_run(event["workflow_run"], api, repository)
        if not isinstance(event.get("pull_request"), dict):
            raise NoPullRequestError(f"the event {name!r} belongs to no pull request")
        number = int(event["pull_request"]["number"])
        head = _head(event["pull_request"])
        found = api.send("GET", f"/repos/{repository}/pulls/{number}")
        _check(found, head, repository)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the event {name!r}, or GitHub's answer about it, lacks a value: {error}") from error
    return PullRequest(number, head, run)


def _of_workflow_run(run: Mapping[str, Any], api: GitHubApi, repository: str) -> PullRequest:
    if run["event"] != "pull_request":
        raise NoPullRequestError(f"the run was started by the event {run['event']!r}, and by no pull request")
    head = Head(run["head_repository"]["full_name"], run["head_branch"], run["head_sha"])
    owner = run["head_repository"]["owner"]["login"]
    reasons = []
    numbers = []
    for pull in api.items(f"/repos/{repository}/pulls", state="open", head=f"{owner}:{head.branch}"):
        try:
            _check(pull, head, repository)
        except NoPullRequestError as error:  # noqa: PERF203 -- a branch has few pull requests
            reasons.append(str(error))
        else:
            numbers.append(int(pull["number"]))
    match numbers:
        case [number]:
            return PullRequest(number, head, int(run["id"]))
        case []:
            place = f"{head.repository}, branch {head.branch!r}"
            raise NoPullRequestError(reasons[0] if reasons else f"no pull request is open for {place}")
    listed = ", ".join(f"#{number}" for number in numbers)
    raise NoPullRequestError(f"the branch has several pull requests ({listed}), and the run does not name its own")


def _head(pull: Mapping[str, Any]) -> Head:
    """Return the head of a pull request. Its repository is "" if the fork was deleted."""
    head = pull["head"]
    return Head(head["repo"]["full_name"] if head["repo"] else "", head["ref"], head["sha"])


def _check(pull: Mapping[str, Any], expected: Head, repository: str) -> None:
    """Raise a NoPullRequestError unless the pull request is open here, and its head is the one that was measured."""
    found = _head(pull)
    name = f"pull request #{int(pull['number'])}"
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", expected.sha):
        raise NoPullRequestError(f"{expected.sha!r} is no commit")
    if pull["base"]["repo"]["full_name"] != repository:
        raise NoPullRequestError(f"{name} belongs to {pull['base']['repo']['full_name']}, and not to {repository}")
    if pull["state"] != "open":
        raise NoPullRequestError(f"{name} is {pull['state']}")
    if found.repository != expected.repository:
        raise NoPullRequestError(f"{name} is from {found.repository or 'a deleted fork'}, not {expected.repository}")
    if found.branch != expected.branch:
        raise NoPullRequestError(f"{name} is of the branch {found.branch!r}, and not {expected.branch!r}")
    if found.sha != expected.sha:
        raise NoPullRequestError(f"{name} is at commit {found.sha[:10]}, and {expected.sha[:10]} was measured")
