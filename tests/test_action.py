"""action.yml, action/comment and the workflows: pinned, without pasted inputs, and with options that exist.

`make lint` runs zizmor on these files. `make_report.py` runs here with a stand-in for the subprocesses.
"""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from paths import DOCS, ROOT
from samples import linear, report, reported_test

from pytest_flopsbudget.commands.main import main
from pytest_flopsbudget.storage.report_file import save

ACTIONS = [ROOT / "action.yml", ROOT / "action" / "comment" / "action.yml"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
#: The blocks of YAML in docs/ci.md that are workflows of GitHub.
EXAMPLES = re.findall(
    r"```yaml\n(# \.github/workflows/.*?)```", DOCS.joinpath("ci.md").read_text(encoding="utf-8"), re.DOTALL
)
#: How this repository is named in `uses:`, in the examples.
OWN = "pytest-flopsbudget/pytest-flopsbudget"


def steps(parsed):
    """Yield the steps of an action or a workflow."""
    if "runs" in parsed:
        yield from parsed["runs"]["steps"]
    for job in parsed.get("jobs", {}).values():
        yield from job["steps"]


@pytest.mark.parametrize("path", [*ACTIONS, *WORKFLOWS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pinned_and_without_pasted_values(path):
    text = path.read_text(encoding="utf-8")
    found = list(steps(yaml.safe_load(text)))
    assert found
    for step in found:
        assert "${{" not in step.get("run", "")
    for line in text.splitlines():
        if "uses: " in line and "uses: ./" not in line:
            assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)


def test_one_pin_for_each_action():
    text = "".join(path.read_text(encoding="utf-8") for path in [*ACTIONS, *WORKFLOWS]) + "".join(EXAMPLES)
    pins = set(re.findall(r"uses: ((?!\.)[\w/-]+@\S+ # v\S+)", text))
    assert len(pins) == len({pin.partition("@")[0] for pin in pins}) >= 5


def test_workflows_have_few_permissions():
    for path in WORKFLOWS:
        parsed = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert parsed["permissions"] in ({}, {"contents": "read"})
        for job in parsed["jobs"].values():
            assert job.get("permissions", {}) in ({}, {"contents": "read"}, {"id-token": "write"})


def test_the_posting_action_runs_nothing_of_the_pull_request():
    used = [step.get("uses", "").partition("@")[0] for step in steps(yaml.safe_load(ACTIONS[1].read_text()))]
    assert used == ["actions/setup-python", "actions/download-artifact", ""]


def test_every_input_is_used_and_known():
    """Both actions, and the examples in docs/ci.md, pass only inputs that exist."""
    for path in ACTIONS:
        text = path.read_text(encoding="utf-8")
        declared = set(yaml.safe_load(text)["inputs"])
        assert declared == set(re.findall(r"inputs\.([\w-]+)", text))
    assert len(EXAMPLES) == 3
    for example in EXAMPLES:
        for step in steps(yaml.safe_load(example)):
            name, _, version = step.get("uses", "").partition("@")
            if name.startswith(OWN):
                action = ROOT / name.removeprefix(OWN).lstrip("/") / "action.yml"
                assert set(step.get("with", {})) <= set(yaml.safe_load(action.read_text())["inputs"])
                assert version == "COMMIT"


def test_the_options_of_the_command(capsys):
    """The command knows every option with which the actions call it."""
    for path in ACTIONS:
        for step in steps(yaml.safe_load(path.read_text(encoding="utf-8"))):
            if "pytest_flopsbudget github" in step.get("run", ""):
                with pytest.raises(SystemExit):
                    main(["github", "--help"])
                told = capsys.readouterr().out
                options = re.findall(r"(--\w+)=", step["run"])
                assert len(options) == 3
                assert all(option in told for option in options)


def test_options_of_pytest_in_templates_and_docs(pytestconfig):
    texts = [DOCS / "ci.md", ROOT / "templates" / "gitlab.yml", ROOT / "action" / "make_report.py"]
    options = {option for path in texts for option in re.findall(r"--flops-budget-[a-z]+", path.read_text("utf-8"))}
    assert len(options) >= 5
    for option in options:
        assert pytestconfig.getoption(option, default="absent") != "absent"


def test_the_template_for_gitlab():
    """Each report that the job announces is a file that pytest writes."""
    job = yaml.safe_load(ROOT.joinpath("templates", "gitlab.yml").read_text(encoding="utf-8"))["flops-budget"]
    written = set(re.findall(r"=(flops-budget/\S+)", " ".join(job["script"])))
    assert set(job["artifacts"]["reports"].values()) < written
    assert set(job["artifacts"]["reports"]) == {"junit", "metrics", "codequality"}


class TestMakeReport:
    @pytest.fixture
    def step(self, tmp_path, monkeypatch):
        """Run the first step of the action in a new folder. Return its exit code, and its outputs as lines."""
        monkeypatch.chdir(tmp_path)
        save(report(reported_test("test_a.py::t", linear(4))), Path("given.json"))
        for name, value in {
            "FLOPS_BUDGET_FOLDER": str(tmp_path / "out"),
            "FLOPS_BUDGET_REPORT": "",
            "FLOPS_BUDGET_ARGUMENTS": "",
            "GITHUB_OUTPUT": str(tmp_path / "outputs"),
            "GITHUB_EVENT_NAME": "pull_request",
        }.items():
            monkeypatch.setenv(name, value)

        def run(**environment):
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            code = runpy.run_path(str(ROOT / "action" / "make_report.py"))["main"]()
            outputs = tmp_path / "outputs"
            return code, outputs.read_text(encoding="utf-8").splitlines() if outputs.exists() else []

        return run

    @pytest.fixture
    def calls(self, monkeypatch):
        """Stand in for subprocesses: pytest writes a report and fails; commands run in this process."""
        calls = []

        def run(command, check):
            calls.append(command[3:])
            assert command[:2] == [sys.executable, "-m"]
            if command[2] == "pytest_flopsbudget":
                return subprocess.CompletedProcess(command, main(command[3:]))
            if "--wrong" in command:
                return subprocess.CompletedProcess(command, 4)
            path = command[-1].removeprefix("--flops-budget-json=")
            save(report(reported_test("test_a.py::t", linear(4))), Path(path))
            return subprocess.CompletedProcess(command, 1)

        monkeypatch.setattr(subprocess, "run", run)
        return calls

    def test_runs_pytest(self, step, calls, tmp_path):
        """The step succeeds although tests failed. The last step of the action fails with their exit code."""
        code, outputs = step(FLOPS_BUDGET_ARGUMENTS="tests -k 'a or b'")
        out = tmp_path / "out"
        assert code == 0
        assert outputs == ["exit-code=1", f"report={out / 'run.json'}", f"page={out / 'page.html'}"]
        assert calls[0] == ["tests", "-k", "a or b", f"--flops-budget-json={out / 'run.json'}"]
        assert out.joinpath("page.html").read_text(encoding="utf-8").startswith("<!doctype html>")

    def test_takes_a_report(self, step, calls, tmp_path):
        code, outputs = step(FLOPS_BUDGET_REPORT="given.json")
        assert (code, outputs[0], len(calls)) == (0, "exit-code=0", 1)
        assert tmp_path.joinpath("out", "run.json").read_bytes() == tmp_path.joinpath("given.json").read_bytes()

    def test_a_report_that_is_missing(self, step, calls, capsys):
        assert step(FLOPS_BUDGET_REPORT="gone.json") == (4, [])
        assert capsys.readouterr().out.startswith("::error::report: gone.json: no such file in ")

    def test_a_report_that_is_damaged(self, step, calls, tmp_path):
        tmp_path.joinpath("given.json").write_text("{")
        assert step(FLOPS_BUDGET_REPORT="given.json") == (4, [])

    def test_pytest_writes_no_report(self, step, calls, tmp_path):
        """A report of an earlier job on the machine is not published."""
        tmp_path.joinpath("out").mkdir()
        tmp_path.joinpath("out", "run.json").write_text("old")
        assert step(FLOPS_BUDGET_ARGUMENTS="--wrong") == (0, ["exit-code=4", "report=", "page="])

    @pytest.mark.parametrize("event", ["pull_request_target", "workflow_run"])
    def test_events_that_would_run_code_of_others(self, step, calls, event):
        """On these events the token may write, so that the code of a pull request must not run."""
        assert step(GITHUB_EVENT_NAME=event) == (0, ["exit-code=4", "report=", "page="])
        assert calls == []
