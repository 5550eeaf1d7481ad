"""Which reports a run writes, where, and what happens if a report cannot be written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from conftest import NET_FLOPS, NET_PARAMS
from inner_runs import WITH

from pytest_flopsbudget.storage.report_file import load

FLAGS = {
    "json": "--flops-budget-json",
    "md": "--flops-budget-markdown",
    "csv": "--flops-budget-csv",
    "txt": "--flops-budget-gitlab",
}
ALL = [f"{flag}=reports/run.{end}" for end, flag in FLAGS.items()]

TESTS = """
@pytest.mark.flops_budget(flops="20 kFLOPs")
@pytest.mark.parametrize("kernel", [3, 5])
def test_net(flops_budget, kernel):
    flops_budget(Net(kernel), IMAGE)

def test_two(flops_budget):
    flops_budget(Net(), IMAGE, name="student")
    flops_budget(Net(width=8), IMAGE, name="teacher")

def test_own(flops_budget):
    flops_budget(Net(), IMAGE)
    assert False

def test_nothing():
    pass
"""
#: A kernel of 5·5 instead of 3·3 has 4·3·(25 - 9) more weights, with 2·8·8 FLOPs each.
EXPENSIVE_FLOPS = NET_FLOPS + 4 * 3 * (25 - 9) * 2 * 64


@pytest.fixture(autouse=True)
def _away_from_ci(monkeypatch):
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "FLOPS_BUDGET_ACTION"):
        monkeypatch.delenv(name, raising=False)


def written(project):
    return {path.suffix[1:]: path.read_bytes() for path in project.path.joinpath("reports").iterdir()}


def elements(path, tag):
    return ET.fromstring(path.read_text(encoding="utf-8")).iter(tag)  # noqa: S314 -- pytest wrote this file


def outcomes(report):
    return {
        (test.nodeid.partition("::")[2], one.name): (test.outcome, test.own_failure, one.outcome)
        for test in report.tests
        for one in test.measurements
    }


class TestRun:
    def test_what_a_failing_run_found(self, project):
        """The report has exact numbers, and the reason why each test failed."""
        project.write(TESTS)
        result = project.run(*ALL)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        report = load(project.path / "reports" / "run.json")
        assert outcomes(report) == {
            ("test_net[3]", "model"): ("passed", False, "new"),
            ("test_net[5]", "model"): ("failed", False, "over limit"),
            ("test_two", "student"): ("passed", False, "new"),
            ("test_two", "teacher"): ("passed", False, "new"),
            ("test_own", "model"): ("failed", True, "new"),
        }
        assert report.run.exit_status == 1
        assert (report.run.update, report.run.stopped, report.run.root) == (None, False, ".")
        first = report.tests[0]
        assert (first.file, first.line) == ("test_net.py", 5)
        assert first.measurements[0].complexity.flops == NET_FLOPS
        assert report.tests[1].measurements[0].complexity.flops == EXPENSIVE_FLOPS
        assert report.tests[1].measurements[0].limits["flops"].maximum == 20_000
        assert "broken in 1 of 4 tests: 1 over a limit" in written(project)["md"].decode()

    def test_the_same_with_workers(self, project):
        project.write(TESTS)
        project.run(*ALL)
        alone = written(project)
        project.run_apart(*ALL, "-n2")
        assert written(project) == alone
        assert set(alone) == set(FLAGS)

    def test_what_changed(self, project):
        measuring = "def test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n"
        project.write(measuring)
        project.run("--flops-budget-update", *ALL)
        run = load(project.path / "reports" / "run.json").run
        assert (run.update, run.written) == ("all", ("__flops__/test_net.json",))
        project.write(measuring.replace("Net()", "Net(5)"))
        project.run(*ALL)
        (test,) = load(project.path / "reports" / "run.json").tests
        (one,) = test.measurements
        assert one.comparison.status == "regressed"
        assert [(change.path, change.change) for change in one.diffs[0].modules] == [
            ("stem", EXPENSIVE_FLOPS - NET_FLOPS)
        ]
        assert "stem: Conv2d 3\u00d73 \u2192 5\u00d75" in written(project)["md"].decode()

    def test_nothing_measured(self, project):
        project.write("def test_nothing():\n    pass\n")
        assert project.run(*ALL).ret == pytest.ExitCode.OK
        found = written(project)
        assert json.loads(found["json"])["tests"] == []
        assert found["csv"].decode().startswith("nodeid,name,")
        assert found["csv"].count(b"\n") == 1
        assert "nothing was measured" in found["md"].decode()
        assert found["txt"] == b"# EOF\n"

    def test_only_collected(self, project):
        """With --collect-only, the reports of an earlier run are not overwritten."""
        project.write(TESTS)
        project.run(*ALL)
        before = written(project)
        project.run(*ALL, "--collect-only")
        assert written(project) == before

    def test_stopped(self, project):
        project.write(TESTS)
        project.run("-x", *ALL)
        assert load(project.path / "reports" / "run.json").run.stopped

    def test_a_failing_teardown_is_the_tests_own_failure(self, project):
        project.write(
            "@pytest.fixture\ndef broken():\n    yield\n    assert False\n\n"
            "def test_net(flops_budget, broken):\n    flops_budget(Net(), IMAGE)\n"
        )
        project.run(*ALL)
        report = load(project.path / "reports" / "run.json")
        assert outcomes(report) == {("test_net", "model"): ("failed", True, "new")}

    def test_reruns(self, project):
        project.write(
            "attempts = []\n\n@pytest.mark.flaky(reruns=1)\ndef test_net(flops_budget):\n    attempts.append(1)\n"
            "    if len(attempts) == 1:\n        flops_budget(Net(), IMAGE, name='first')\n        assert False\n"
            "    flops_budget(Net(), IMAGE, name='second')\n"
        )
        project.run(*ALL, "--junitxml=junit.xml", *WITH["rerunfailures"]).assert_outcomes(passed=1)
        report = load(project.path / "reports" / "run.json")
        assert outcomes(report) == {("test_net", "second"): ("passed", False, "new")}
        *_, last = elements(project.path / "junit.xml", "testcase")
        assert {prop.get("name").rpartition(".")[0] for prop in last.iter("property")} == {"flops_budget.second"}

    def test_without_a_terminal(self, project):
        project.write(TESTS)
        project.run("-p", "no:terminal", *ALL)
        assert set(written(project)) == set(FLAGS)

    def test_a_project_inside_a_repository(self, project):
        """If the project is a folder in a repository, the report has the path of this folder."""
        project.path.joinpath(".git").mkdir()
        inner = project.path / "packages" / "net"
        inner.joinpath("tests").mkdir(parents=True)
        inner.joinpath("pytest.ini").write_text(
            "[pytest]\nasyncio_default_fixture_loop_scope = function\n", encoding="utf-8"
        )
        project.write("def test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n")
        project.path.joinpath("test_net.py").rename(inner / "tests" / "test_net.py")
        project.run("packages/net", "-o", f"pythonpath={project.path}", *ALL)
        report = load(project.path / "reports" / "run.json")
        assert report.run.root == "packages/net"
        assert [test.file for test in report.tests] == ["tests/test_net.py"]


class TestPaths:
    def test_of_the_folder_where_pytest_was_started(self, project, monkeypatch):
        project.write("def test_nothing():\n    pass\n")
        folder = project.path / "elsewhere"
        folder.mkdir()
        monkeypatch.chdir(folder)
        project.run("--rootdir", str(project.path), str(project.path), "--flops-budget-json=a/b/run.json")
        assert load(folder / "a" / "b" / "run.json").tests == ()

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("", "names no file; write --flops-budget-csv=PATH"),
            ("-", "names no file; write --flops-budget-csv=PATH"),
            ("folder", "cannot be written: it is a folder; name a file in it"),
            ("test_net.py/run.csv", "*test_net.py is a file, and no folder; name another file"),
            ("x" * 300, "cannot be written: *"),
        ],
    )
    def test_told_before_the_tests(self, project, path, message):
        project.path.joinpath("folder").mkdir()
        project.write("def test_nothing():\n    pass\n")
        result = project.run(f"--flops-budget-csv={path}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: --flops-budget-csv={path}: {message}"])
        assert "Traceback" not in result.stderr.str()
        assert "passed" not in result.stdout.str()

    def test_two_reports_in_one_file(self, project):
        project.write("def test_nothing():\n    pass\n")
        result = project.run("--flops-budget-json=./run", "--flops-budget-csv=run")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *csv=run: --flops-budget-json writes to the same file; name another one"])

    @pytest.mark.parametrize("flags", [[], ["-p", "no:terminal"]], ids=["terminal", "no terminal"])
    def test_told_at_the_end(self, project, flags):
        """If a path becomes invalid during the run, the other reports are written, and the run fails."""
        project.write(
            "import pathlib\n\ndef test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n"
            "    pathlib.Path('reports/run.csv').mkdir(parents=True)\n"
        )
        result = project.run(*ALL, *flags)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        told = result.stderr if flags else result.stdout
        told.fnmatch_lines(["ERROR: --flops-budget-csv: *run.csv: cannot be written: *"])
        assert "Traceback" not in result.stdout.str() + result.stderr.str()
        assert load(project.path / "reports" / "run.json").tests

    def test_a_device(self, project):
        project.write("def test_nothing():\n    pass\n")
        assert project.run("--flops-budget-csv=/dev/null").ret == pytest.ExitCode.OK
        assert Path("/dev/null").is_char_device()

    def test_a_pipe(self, project):
        """If the path is a pipe, as in `>(...)` of a shell, the report is written to it."""
        project.write("def test_nothing():\n    pass\n")
        reading, writing = os.pipe()
        try:
            assert project.run(f"--flops-budget-csv=/dev/fd/{writing}").ret == pytest.ExitCode.OK
            assert os.read(reading, 7) == b"nodeid,"
        finally:
            os.close(reading)
            os.close(writing)

    @pytest.mark.parametrize("other", ["sub/../run", "link"])
    def test_one_file_by_two_names(self, project, other):
        """If two flags name the same file, pytest refuses to run."""
        project.path.joinpath("sub").mkdir()
        project.path.joinpath("link").symlink_to("run")
        result = project.run("--flops-budget-json=run", f"--flops-budget-csv={other}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *csv=*: --flops-budget-json writes to the same file; name another one"])

    def test_a_symbolic_link(self, project):
        project.write("def test_nothing():\n    pass\n")
        link = project.path / "run.csv"
        link.symlink_to("real.csv")
        project.path.joinpath("real.csv").touch(mode=0o640)
        project.run("--flops-budget-csv=run.csv")
        assert link.is_symlink()
        assert project.path.joinpath("real.csv").read_text(encoding="utf-8").startswith("nodeid,")
        assert project.path.joinpath("real.csv").stat().st_mode & 0o777 == 0o640


class TestJunit:
    @pytest.mark.parametrize(("family", "workers"), [("xunit1", []), ("xunit2", []), ("xunit2", ["-n1"])])
    def test_properties(self, project, family, workers):
        """The properties in a JUnit report belong to the test that measured."""
        project.write(TESTS)
        run = project.run_apart if workers else project.run
        run("--junitxml=junit.xml", "-o", f"junit_family={family}", "-W", "error", *workers)
        cases = {case.get("name"): case for case in elements(project.path / "junit.xml", "testcase")}
        found = {
            name: {prop.get("name"): prop.get("value") for prop in case.iter("property")}
            for name, case in cases.items()
        }
        assert found["test_net[3]"]["flops_budget.flops"] == str(NET_FLOPS)
        assert found["test_net[3]"]["flops_budget.flops.limit"] == "20000"
        assert found["test_net[5]"]["flops_budget.verdict"] == "over limit"
        assert found["test_two"]["flops_budget.student.params"] == str(NET_PARAMS)
        assert found["test_nothing"] == {}

    def test_off(self, project):
        project.settings('[tool.pytest-flopsbudget]\njunit-properties = "off"\n')
        project.write(TESTS)
        project.run("--junitxml=junit.xml")
        assert list(elements(project.path / "junit.xml", "property")) == []


class TestGithub:
    @pytest.fixture
    def actions(self, project, monkeypatch):
        """Make a project for GitHub Actions, and return the path of the job summary."""
        project.settings('[tool.pytest-flopsbudget]\ngithub = "auto"\n')
        project.write(TESTS)
        summary = project.path / "summary.md"
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path.parent))
        return summary

    @pytest.mark.parametrize("flags", [[], ["-p", "no:terminal"], ["-n1"]], ids=["terminal", "no terminal", "worker"])
    def test_summary_and_annotations(self, project, actions, flags):
        """The run appends its text to the job summary."""
        actions.write_text("before\n", encoding="utf-8")
        result = (project.run_apart if "-n1" in flags else project.run)(*flags)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        text = actions.read_text(encoding="utf-8")
        assert text.startswith("before\n### \u274c Complexity budgets: broken in 1 of 4 tests: 1 over a limit\n")
        commands = [line for line in result.stdout.lines if line.startswith("::")]
        errors = [line for line in commands if line.startswith("::error ")]
        assert len(errors) == 1
        assert f"file={project.path.name}/test_net.py,line=5,title=flops budget%3A over limit::" in errors[0]

    def test_not_asked_for(self, project, actions):
        project.settings("")
        result = project.run()
        assert not actions.exists()
        assert "::error" not in result.stdout.str()

    def test_the_action_publishes(self, project, actions, monkeypatch):
        """In a run that the action starts, the action publishes the report, so that nothing is shown twice."""
        monkeypatch.setenv("FLOPS_BUDGET_ACTION", "1")
        result = project.run()
        assert not actions.exists()
        assert "::error" not in result.stdout.str()

    def test_elsewhere(self, project, actions, monkeypatch):
        """Outside of GitHub Actions, the run writes neither a job summary nor annotations."""
        for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
            monkeypatch.delenv(name)
        result = project.run()
        assert not actions.exists()
        assert "::error" not in result.stdout.str()

    def test_nothing_measured(self, project, actions):
        project.write("def test_nothing():\n    pass\n")
        project.run()
        assert not actions.exists()

    def test_a_full_summary(self, project, actions):
        """The run never makes the file of the job summary larger than 1 MiB."""
        actions.write_bytes(b"x" * (1024 * 1024 - 100))
        assert project.run().ret == pytest.ExitCode.TESTS_FAILED
        assert actions.stat().st_size <= 1024 * 1024

    def test_a_summary_that_cannot_be_written(self, project, actions):
        actions.mkdir()
        result = project.run()
        result.stdout.fnmatch_lines(["ERROR: GITHUB_STEP_SUMMARY: *summary.md: cannot be written: *"])
        assert result.ret == pytest.ExitCode.TESTS_FAILED

    def test_a_typo(self, project):
        project.settings('[tool.pytest-flopsbudget]\ngithub = "autp"\n')
        project.write(TESTS)
        result = project.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(['ERROR: *github: \'autp\' is none of "auto", "off"; did you mean "auto"?'])
