"""The commands merge, accept and rename work on reports of real runs."""

import os

import pytest

from pytest_flopsbudget.commands.main import main

#: Five tests: one regresses, one passes, one is over its limit, one fails for another reason, and one has no baseline.
TESTS = """
import os

WIDTH = int(os.environ.get("WIDTH", 4))

def test_grows(flops_budget):
    flops_budget(Net(width=WIDTH), IMAGE)

@pytest.mark.parametrize("kernel", [1, 3])
def test_stays(flops_budget, kernel):
    flops_budget(Net(kernel), IMAGE, name="forward")
    flops_budget(Net(kernel), IMAGE, name="both", backward=True)

@pytest.mark.flops_budget(params=162)
def test_limited(flops_budget):
    flops_budget(Net(width=WIDTH), IMAGE)

def test_breaks(flops_budget):
    flops_budget(Net(width=WIDTH), IMAGE)
    assert WIDTH == 4
"""


@pytest.fixture
def grown(project, monkeypatch):
    """Return a project whose models are more expensive than their baselines."""
    project.write(TESTS)
    project.write("def test_other(flops_budget):\n    flops_budget(Net(), IMAGE)\n", name="test_other")
    project.run("--flops-budget-update").assert_outcomes(passed=6)
    monkeypatch.setenv("WIDTH", "5")
    return project


def test_shards_merge_to_the_report_of_a_single_run(grown, capsys):
    whole = grown.run("--flops-budget-json=whole.json")
    whole.assert_outcomes(passed=3, failed=3)
    grown.run("--flops-budget-json=first.json", "-k", "grows or breaks")
    grown.run("--flops-budget-json=second.json", "-k", "not grows and not breaks")
    code = main(["merge", "second.json", "first.json", "-o", "merged.json"])
    assert code == int(whole.ret) == 1
    assert grown.path.joinpath("merged.json").read_bytes() == grown.path.joinpath("whole.json").read_bytes()


def test_passing_shards_pass(grown, monkeypatch):
    monkeypatch.setenv("WIDTH", "4")
    assert grown.run("--flops-budget-json=whole.json").ret == 0
    assert grown.run("--flops-budget-json=first.json", "test_other.py").ret == 0
    assert grown.run("--flops-budget-json=second.json", "test_net.py").ret == 0
    # pytest's exit code if no test ran
    assert grown.run("--flops-budget-json=third.json", "-k", "nothing").ret == 5
    assert main(["merge", "first.json", "second.json", "third.json", "-o", "merged.json"]) == 0
    assert grown.path.joinpath("merged.json").read_bytes() == grown.path.joinpath("whole.json").read_bytes()


def test_accepting_a_report_writes_what_an_update_writes(grown, capsys):
    before = grown.baseline.read_bytes()
    grown.run("--flops-budget-json=report.json").assert_outcomes(passed=3, failed=3)
    assert grown.baseline.read_bytes() == before
    capsys.readouterr()
    assert main(["accept", "report.json"]) == 1
    out = capsys.readouterr().out
    assert "not accepted: test_net.py::test_limited: a limit is broken, and has to be changed first: params" in out
    assert "not accepted: test_net.py::test_breaks: it failed for a reason other than its budget" in out
    accepted = grown.baseline.read_bytes()
    grown.baseline.write_bytes(before)
    grown.run("--flops-budget-update").assert_outcomes(passed=4, failed=2)
    assert accepted != before
    assert grown.baseline.read_bytes() == accepted
    grown.run("-k", "grows").assert_outcomes(passed=1)


def test_a_test_that_was_renamed_keeps_its_baseline(grown, monkeypatch):
    monkeypatch.setenv("WIDTH", "4")
    grown.write(TESTS.replace("test_grows", "test_renamed"))
    shown = grown.run().stdout
    (command,) = [line for line in shown.lines if "flopsbudget rename" in line]
    assert main(command.partition("flopsbudget ")[2].split()) == 0
    result = grown.run()
    result.assert_outcomes(passed=6)
    assert "without a baseline" not in str(result.stdout)


def test_a_report_made_elsewhere_is_accepted_here(grown, tmp_path_factory, monkeypatch):
    checkout = tmp_path_factory.mktemp("checkout")
    grown.run("--flops-budget-json=report.json", "-k", "grows")
    for name in ("test_net.py", "test_other.py", "report.json"):
        os.link(grown.path / name, checkout / name)
    monkeypatch.chdir(checkout)
    assert main(["accept", "report.json"]) == 0
    assert b"test_grows" in checkout.joinpath("__flops__", "test_net.json").read_bytes()
