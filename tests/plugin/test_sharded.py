"""Limits, baselines and reports of the communication of sharded models."""

from __future__ import annotations

import csv
import json

import pytest

#: The output of this row-parallel layer is summed over the ranks: 2 rows of 8 numbers of 4 bytes, which are 64 bytes.
TEST = """
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import RowwiseParallel, parallelize_module

class Row(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 8, bias=False)

    def forward(self, inputs):
        return self.layer(inputs)

LIMIT
def test_row(flops_budget):
    with flops_budget.world(size=SIZE, rank=1):
        model = parallelize_module(Row(), init_device_mesh("cpu", (SIZE,)), {"layer": RowwiseParallel()})
        flops_budget(model, torch.empty(ROWS, 16 // SIZE))
"""


def _test(limit: str = "", *, size: int = 4, rows: int = 2) -> str:
    return TEST.replace("LIMIT", limit).replace("SIZE", str(size)).replace("ROWS", str(rows))


@pytest.mark.parametrize(("limit", "passed"), [("64 B", True), ("63 B", False)])
def test_a_limit(project, limit, passed):
    """A limit on communication bounds the bytes of the messages of one rank."""
    project.write(_test(f'@pytest.mark.flops_budget(communication="{limit}")'))
    result = project.run()
    result.assert_outcomes(passed=int(passed), failed=int(not passed))
    if not passed:
        result.stdout.fnmatch_lines(["communication +1.6% over its limit in *", "  communication *64 B *63 B  marker"])


def test_a_limit_of_a_module(project):
    project.write(_test('@pytest.mark.flops_budget(modules={"layer": {"communication": "10 B"}})'))
    project.run().assert_outcomes(failed=1)


def test_a_limit_on_models_that_pass_nothing(project):
    """A model that is not distributed communicates 0 bytes."""
    project.settings('[tool.pytest-flopsbudget.limits]\ncommunication = "0 B"\n')
    project.write("def test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n")
    project.run().assert_outcomes(passed=1)


def test_in_the_baseline(project):
    project.settings('[tool.pytest-flopsbudget]\nhold = ["communication"]\n')
    project.write(_test())
    project.run("--flops-budget-update").assert_outcomes(passed=1)
    assert '"communication":64' in project.baseline.read_text().replace(" ", "")
    project.run().assert_outcomes(passed=1)
    project.write(_test(rows=3))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*communication +50.0% over its baseline*", "  communication *64 B *96 B *"])


def test_a_baseline_of_before_it_was_measured(project):
    """If the baseline was written before communication was a metric, there is no regression."""
    project.write(_test())
    project.run("--flops-budget-update").assert_outcomes(passed=1)
    lines = [
        line.replace(', "communication": 64', "").replace(', "communication": 0', "")
        for line in project.baseline.read_text().splitlines()
        if '"_c10d' not in line
    ]
    text = "\n".join(lines) + "\n"
    assert "communication" not in text
    json.loads(text)
    project.baseline.write_text(text)
    result = project.run()
    result.assert_outcomes(passed=1)
    assert "communication" not in result.stdout.str()


def test_not_in_the_baseline_of_other_models(project):
    project.write("def test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n")
    project.run("--flops-budget-update").assert_outcomes(passed=1)
    assert "communication" not in project.baseline.read_text()


def test_no_world_any_more(project):
    """If the baseline has communication and the run does not, the summary says that it is no longer measured."""
    project.write(_test(size=1).replace("rank=1", "rank=0"))
    project.run("--flops-budget-update").assert_outcomes(passed=1)
    project.write(
        _test().split("def test_row")[0].replace("LIMIT", "")
        + "def test_row(flops_budget):\n    flops_budget(Row(), torch.empty(2, 16))\n"
    )
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*in the baseline, but no longer measured: communication"])


def test_verbose_tells_the_kinds(project):
    """With -v, each collective operator has a line with its bytes and calls."""
    project.write(_test())
    project.run("-v").stdout.fnmatch_lines(["  _c10d_functional.all_reduce: 64 B in 1 call"])
    assert "_c10d_functional" not in project.run().stdout.str()


def test_in_every_report(project):
    project.write(_test())
    reports = ("--flops-budget-json=report.json", "--flops-budget-csv=report.csv", "--flops-budget-gitlab=metrics.txt")
    project.run(*reports, "--junitxml=junit.xml").assert_outcomes(passed=1)
    measured = json.loads((project.path / "report.json").read_text())["tests"][0]["measurements"][0]
    assert measured["complexity"]["metrics"]["communication"] == 64
    assert measured["complexity"]["operators"]["_c10d_functional.all_reduce"]["metrics"]["communication"] == 64
    (row,) = csv.DictReader((project.path / "report.csv").read_text().splitlines())
    assert (row["communication"], row["communication_baseline"]) == ("64", "")
    assert "flops_budget_communication{" in (project.path / "metrics.txt").read_text()
    assert 'name="flops_budget.communication" value="64"' in (project.path / "junit.xml").read_text()


def test_no_such_rank(project):
    project.write(_test().replace("rank=1", "rank=4"))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*world(size=4, rank=4): the ranks are 0 to 3*"])
