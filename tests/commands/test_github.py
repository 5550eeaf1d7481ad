"""The command ``github`` beside a server that answers like GitHub."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fake_github import BOT, TOKEN, FakeGitHub, pull, serving
from samples import linear, report, reported_test

from pytest_flopsbudget.commands import github_api
from pytest_flopsbudget.storage.report_file import save

MARKER = "<!-- pytest-flopsbudget: default -->\n"
HEAD = "### ❌ Complexity budgets: broken in 1 of 1 test: 1 grown beyond the baseline\n"

REFUSED = "POST /repos/me/net/issues/7/comments: 403 Resource not accessible by integration"
REMEDY = "give the job `permissions: pull-requests: write`, or publish no comment"
LIMITED = {"message": "You have exceeded a secondary rate limit."}


@pytest.fixture(scope="module")
def server():
    with serving(FakeGitHub()) as fake:
        yield fake


@pytest.fixture
def waits(monkeypatch):
    """The seconds that the command would have waited, instead of waiting."""
    waited = []
    real = github_api.GitHubApi.__init__
    monkeypatch.setattr(
        github_api.GitHubApi, "__init__", lambda self, url, token: real(self, url, token, sleep=waited.append)
    )
    return waited


@pytest.fixture
def github(server, waits, command, monkeypatch):
    """GitHub, and a workflow on pull_request: a report, the event, and the variables that GitHub sets."""
    url = server.url
    server.__dict__.clear()
    server.__init__()
    server.url = url
    save(report(reported_test("test_a.py::t", linear(5), linear(4), line=3)), Path("run.json"))
    environment = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_API_URL": url,
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_TOKEN": TOKEN,
        "GITHUB_REPOSITORY": "me/net",
        "GITHUB_RUN_ID": "99",
        "GITHUB_STEP_SUMMARY": str(Path("summary.md").absolute()),
        "GITHUB_EVENT_PATH": str(Path("event.json").absolute()),
        "NO_PROXY": "*",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def event(name, **content):
        monkeypatch.setenv("GITHUB_EVENT_NAME", name)
        Path("event.json").write_text(json.dumps(content), encoding="utf-8")

    server.event = event
    event("pull_request", pull_request=pull())
    return server


def run_event(*, head="me/net", branch="wider", sha="a" * 40, event="pull_request"):
    owner = head.partition("/")[0]
    return {
        "id": 55,
        "event": event,
        "head_repository": {"full_name": head, "owner": {"login": owner}},
        "head_branch": branch,
        "head_sha": sha,
    }


class TestComment:
    def test_new(self, github, command):
        github.comment("I like it", "ada")
        assert command("github", "run.json", "--publish", "comment") == ["comment written on pull request #7"]
        assert command.code == 0
        body = github.comments[1]["body"]
        assert body.startswith(MARKER + HEAD)
        assert body.endswith(
            f"\nMeasured by [run 99](https://github.example/me/net/actions/runs/99) at commit {'a' * 10}.\n"
        )

    def test_updated_in_place(self, github, command):
        """The comment of an earlier run is on the third page, behind comments of people."""
        for number in range(230):
            github.comment(f"comment {number}", "ada")
        github.comment(f"{MARKER}from an earlier run")
        for _ in range(2):
            assert command("github", "run.json", "--publish", "comment") == ["comment updated on pull request #7"]
        assert len(github.comments) == 231
        assert github.comments[230]["body"].startswith(MARKER + HEAD)
        assert {method for method, _ in github.requests} == {"GET", "PATCH"}

    def test_a_marker_of_somebody_else(self, github, command):
        """Anyone can write a comment with the marker. It is not updated, as its author could change it later."""
        github.comment(f"{MARKER}all is well", "mallory")
        github.comment(f"about {MARKER}", BOT)
        command("github", "run.json", "--publish", "comment")
        assert [one["user"]["login"] for one in github.comments] == ["mallory", BOT, BOT]
        assert github.comments[0]["body"] == f"{MARKER}all is well"

    def test_a_deleted_account(self, github, command):
        github.comment(MARKER)
        github.comments[0]["user"] = None
        assert command("github", "run.json", "--publish", "comment") == ["comment written on pull request #7"]

    def test_a_name_for_each_job(self, github, command):
        for name in ("gpu", "cpu", "gpu"):
            command("github", "run.json", "--publish", "comment", "--name", name)
        assert [one["body"].partition("\n")[0] for one in github.comments] == [
            "<!-- pytest-flopsbudget: gpu -->",
            "<!-- pytest-flopsbudget: cpu -->",
        ]

    def test_another_account(self, github, command):
        github.comment(f"{MARKER}old", "robot")
        command("github", "run.json", "--publish", "comment", "--author", "robot")
        assert len(github.comments) == 1

    def test_a_long_report(self, github, command):
        """The fake server refuses more than 65,536 characters, as GitHub does."""
        tests = [reported_test(f"test_a.py::test_{'x' * 150}[{n}]", linear(5), linear(4)) for n in range(300)]
        save(report(*tests), Path("run.json"))
        assert command("github", "run.json", "--publish", "comment") == ["comment written on pull request #7"]
        assert 50_000 < len(github.comments[0]["body"]) <= 65_536

    def test_a_hostile_test_name(self, github, command):
        name = "test_a.py::t[<!-- @everyone\n::error::x | `rm` ![](http://x)]"
        save(report(reported_test(name, linear(5), linear(4))), Path("run.json"))
        command("github", "run.json", "--publish", "comment")
        body = github.comments[0]["body"].removeprefix(MARKER)
        outside = re.sub(r"(`+)[^`].*?\1|<code>.*?</code>", "", body, flags=re.DOTALL)
        assert "details" in outside
        for text in ("<!--", "@everyone", "::error", "!["):
            assert text not in outside

    def test_a_push_has_no_pull_request(self, github, command):
        github.event("push", ref="refs/heads/main")
        assert command("github", "run.json", "--publish", "comment") == [
            "no comment: the event 'push' belongs to no pull request"
        ]
        assert command.code == 0
        assert github.requests == []

    def test_a_run_of_an_older_commit(self, github, command):
        """A run that ends after the next push must not replace the newer comment."""
        github.pulls = [pull(sha="b" * 40)]
        assert command("github", "run.json", "--publish", "comment") == [
            "no comment: pull request #7 is at commit bbbbbbbbbb, and aaaaaaaaaa was measured"
        ]
        assert (command.code, github.comments) == (0, [])


class TestForbidden:
    def test_a_fork(self, github, command):
        github.may_write = False
        github.pulls = [pull(head="you/net")]
        github.event("pull_request", pull_request=github.pulls[0])
        assert command("github", "run.json", "--publish", "comment") == [
            f"no comment: {REFUSED}; a run for a fork may not write one, a workflow on workflow_run may"
        ]
        assert (command.code, len(github.requests)) == (0, 3)

    def test_a_missing_permission(self, github, command):
        github.may_write = False
        assert command("github", "run.json", "--publish", "comment") == [
            f"::warning title=flops budget%3A no comment::{REFUSED}; {REMEDY}"
        ]
        assert command.code == 0

    def test_a_wrong_token(self, github, command, monkeypatch):
        monkeypatch.setenv("GITHUB_TOKEN", "other")
        assert command("github", "run.json", "--publish", "comment") == []
        assert command.errors == "error: no comment: GET /repos/me/net/pulls/7: 401 Bad credentials\n"
        assert command.code == 1
        assert "other" not in command.errors


class TestRetries:
    @pytest.mark.parametrize(
        ("answer", "waited"),
        [
            ((429, {"retry-after": "7"}, {}), [7]),
            ((403, {"retry-after": "7"}, {}), [7]),
            # GitHub's documentation: without a header, wait for at least a minute.
            ((403, {}, LIMITED), [60]),
            ((502, {}, "<html>bad gateway</html>"), [2]),
        ],
    )
    def test_tried_again(self, github, command, waits, answer, waited):
        github.answers = [answer]
        assert command("github", "run.json", "--publish", "comment") == ["comment written on pull request #7"]
        assert waits == waited

    def test_the_reset_of_a_primary_limit(self, github, command, waits, monkeypatch):
        monkeypatch.setattr(github_api.time, "time", lambda: 1000.0)
        headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1030"}
        github.answers = [(403, headers, {"message": "API rate limit exceeded"})]
        assert command("github", "run.json", "--publish", "comment") == ["comment written on pull request #7"]
        assert waits == [30]

    def test_a_bounded_number(self, github, command, waits):
        github.answers = [(403, {}, LIMITED)] * 10
        assert command("github", "run.json", "--publish", "comment") == []
        assert command.errors == (
            "error: no comment: GET /repos/me/net/pulls/7: 403 You have exceeded a secondary rate limit.\n"
        )
        assert (command.code, len(github.requests), waits) == (1, 4, [60, 60, 60])

    def test_a_long_wait(self, github, command, waits):
        github.answers = [(429, {"retry-after": "3600"}, LIMITED)]
        command("github", "run.json", "--publish", "comment")
        assert command.errors.endswith("; GitHub asks to wait 3,600 seconds, so run the job again later\n")
        assert (command.code, waits) == (1, [])

    def test_a_limit_while_writing(self, github, command, waits):
        """A request beyond a limit was not carried out, so that it is repeated without a second comment."""
        real = github.answer
        limits = [(429, {"retry-after": "1"}, LIMITED)]
        github.answer = lambda method, *rest: limits.pop() if method == "POST" and limits else real(method, *rest)
        assert command("github", "run.json", "--publish", "comment") == ["comment written on pull request #7"]
        assert (len(github.comments), waits) == (1, [1])

    def test_an_error_while_writing(self, github, command, waits):
        """After an error of the server the comment may exist, so that it is not written again."""
        real = github.answer
        github.answer = lambda method, *rest: (502, {}, "") if method == "POST" else real(method, *rest)
        command("github", "run.json", "--publish", "comment")
        assert command.errors.startswith("error: no comment on pull request #7: POST ")
        assert (command.code, waits) == (1, [])

    def test_no_server(self, github, command, waits, monkeypatch):
        monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:1")
        command("github", "run.json", "--publish", "comment")
        assert "Connection refused" in command.errors
        assert (command.code, waits) == (1, [2, 4, 8])

    def test_a_redirect(self, github, command):
        """The token goes to no other address."""
        github.answers = [(302, {"location": "http://127.0.0.1:1/"}, {})]
        command("github", "run.json", "--publish", "comment")
        assert command.errors.startswith("error: no comment: GET /repos/me/net/pulls/7: 302 ")
        assert (command.code, len(github.requests)) == (1, 1)

    @pytest.mark.parametrize("text", ["<html>", "[]", "{}", "7", '{"number": 7, "head": null}'])
    def test_a_strange_answer(self, github, command, text):
        github.answers = [(200, {}, text)]
        assert command("github", "run.json", "--publish", "comment") == []
        assert command.code in {1, 2}
        assert command.errors.count("\n") == 1


class TestWorkflowRun:
    def start(self, github, *pulls, **run):
        github.pulls = list(pulls)
        github.event("workflow_run", workflow_run=run_event(**run))

    @pytest.fixture
    def post(self, github, command):
        return lambda: command("github", "run.json", "--publish", "comment")

    def test_a_fork(self, github, post):
        self.start(github, pull(head="you/net"), head="you/net")
        assert post() == ["comment written on pull request #7"]
        assert "[run 55](https://github.example/me/net/actions/runs/55)" in github.comments[0]["body"]

    @pytest.mark.parametrize(
        ("pulls", "reason"),
        [
            ([], "no pull request is open for you/net, branch 'wider'"),
            (
                [pull(head="you/net", sha="b" * 40)],
                "pull request #7 is at commit bbbbbbbbbb, and aaaaaaaaaa was measured",
            ),
            ([pull(head="you/other")], "pull request #7 is from you/other, not you/net"),
            ([pull(head=None)], "pull request #7 is from a deleted fork, not you/net"),
            (
                [pull(head="you/net", repository="him/net")],
                "pull request #7 belongs to him/net, and not to me/net",
            ),
            ([pull(head="you/net", state="closed")], "pull request #7 is closed"),
            (
                [pull(head="you/net"), pull(8, head="you/net")],
                "the branch has several pull requests (#7, #8), and the run does not name its own",
            ),
        ],
    )
    def test_not_the_pull_request_of_the_run(self, github, command, post, pulls, reason):
        self.start(github, *pulls, head="you/net")
        assert post() == [f"no comment: {reason}"]
        assert (command.code, github.comments) == (0, [])

    def test_a_server_that_lists_another_branch(self, github, post):
        self.start(github, head="you/net")
        github.answers = [(200, {}, [pull(head="you/net", branch="other")])]
        assert post() == ["no comment: pull request #7 is of the branch 'other', and not 'wider'"]

    def test_one_of_two_is_newer(self, github, post):
        self.start(github, pull(8, head="you/net", sha="b" * 40), pull(head="you/net"), head="you/net")
        assert post() == ["comment written on pull request #7"]

    def test_a_run_for_a_push(self, github, post):
        self.start(github, pull(), event="push")
        assert post() == ["no comment: the run was started by the event 'push', and by no pull request"]
        assert github.requests == []

    @pytest.mark.parametrize(
        "branch", ["a&state=all&head=me:main", "$(id)`id`", "x\n::error::y", "ü#/../?page=2", "-->", "'; exit"]
    )
    def test_a_hostile_branch(self, github, command, post, branch):
        """The branch reaches GitHub as one value of the query, and no line of the log begins with it."""
        self.start(github, pull(head="you/net", branch=branch), head="you/net", branch=branch)
        assert post() == ["comment written on pull request #7"]
        self.start(github, head="you/net", branch=branch)
        lines = post()
        assert len(lines) == 1
        assert lines[0].startswith("no comment: no pull request is open for you/net, branch ")

    def test_a_commit_that_is_none(self, github, post):
        sha = "](http://x) [x"
        self.start(github, pull(head="you/net", sha=sha), head="you/net", sha=sha)
        assert post() == [f"no comment: '{sha}' is no commit"]


class TestOthers:
    def test_all_parts(self, github, command):
        Path("summary.md").write_text("before\n", encoding="utf-8")
        lines = command("github", "run.json")
        assert Path("summary.md").read_text(encoding="utf-8").startswith(f"before\n{HEAD}")
        assert lines[0] == "job summary written"
        assert lines[1].startswith("::error file=test_a.py,line=3,title=flops budget%3A regressed::")
        assert lines[2:] == ["comment written on pull request #7"]

    def test_without_a_comment(self, github, command, monkeypatch):
        monkeypatch.delenv("GITHUB_TOKEN")
        command("github", "run.json", "--publish", "summary, annotations")
        assert (command.code, github.requests) == (0, [])

    @pytest.mark.parametrize(
        ("argv", "told"),
        [
            (
                ["--publish", "comments"],
                "--publish comments: no part 'comments'; there are summary, annotations, comment",
            ),
            (["--publish", ""], "--publish : no part ''"),
            (["--name", "a --> b"], "--name a --> b: write 1 to 100 letters"),
        ],
    )
    def test_wrong_arguments(self, github, command, argv, told):
        command("github", "run.json", *argv)
        assert command.errors.startswith(f"error: {told}")
        assert (command.code, github.requests) == (2, [])

    @pytest.mark.parametrize(
        "name",
        [
            "GITHUB_API_URL", "GITHUB_TOKEN", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_EVENT_PATH",
            "GITHUB_EVENT_NAME", "GITHUB_STEP_SUMMARY", "GITHUB_SERVER_URL",
        ],
    )  # fmt: skip
    def test_outside_of_a_workflow(self, github, command, monkeypatch, name):
        monkeypatch.delenv(name)
        command("github", "run.json")
        assert command.errors.startswith(f"error: {name} is not set: this command runs in a workflow of GitHub Actions")
        assert command.code == 2

    @pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x", "api.github.com", "https://a@b", "https://"])
    def test_an_address_that_is_none(self, github, command, monkeypatch, url):
        monkeypatch.setenv("GITHUB_API_URL", url)
        command("github", "run.json", "--publish", "comment")
        assert command.errors.startswith(f"error: GITHUB_API_URL={url}: is no address")
        assert command.code == 2

    @pytest.mark.parametrize("text", ["", "[]", "{"])
    def test_a_damaged_event(self, github, command, text):
        Path("event.json").write_text(text, encoding="utf-8")
        command("github", "run.json", "--publish", "comment")
        assert command.errors.startswith("error: GITHUB_EVENT_PATH=")
        assert command.code == 2

    @pytest.mark.parametrize("name", ["pull_request", "workflow_run"])
    def test_an_event_without_values(self, github, command, name):
        github.event(name, pull_request={}, workflow_run={})
        command("github", "run.json", "--publish", "comment")
        assert command.errors.startswith(f"error: the event '{name}', or GitHub's answer about it, lacks a value")
        assert command.code == 2
