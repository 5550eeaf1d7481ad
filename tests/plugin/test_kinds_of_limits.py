"""Ranges, exact values, shares, warnings, totals and required measurements in whole runs of pytest."""

from __future__ import annotations

import pytest
from conftest import NET_FLOPS, NET_PARAMS

TWO = """
def test_two(flops_budget):
    flops_budget(Net(), IMAGE, name="student")
    flops_budget(Net(5), IMAGE, name="teacher")
"""


@pytest.mark.parametrize(
    ("marker", "line"),
    [
        (f'params={{"min": {NET_PARAMS}, "max": "1k"}}, flops={{"exactly": {NET_FLOPS}}}', None),
        (f'params={{"min": {NET_PARAMS + 1}}}', "params 0.6% under its minimum in test_net"),
        (
            f'flops={{"exactly": {NET_FLOPS + 1}}}',
            "  flops   13.904 kFLOPs  >-0.01%  exactly 13.905 kFLOPs  marker",
        ),
        (
            'operators={"aten.convolution": {"flops": "13 kFLOPs"}}',
            "flops of aten.convolution +6.3% over its limit in test_net",
        ),
        ('operators={"aten.conv": {"flops": 1}}', "*operators: no counted operator of Net matches 'aten.conv'*"),
        ('params={"at_most": 0.3, "of": "head"}', "  params  162 * 15 (30% of head)  marker"),
        (
            'params={"at_most": 4, "of": "haed"}',
            "*of: 'haed' is no measurement of the test and no module of Net; *",
        ),
    ],
)
def test_of_a_marker(project, marker, line):
    project.write(f"@pytest.mark.flops_budget({marker})\ndef test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n")
    result = project.run()
    result.assert_outcomes(failed=line is not None, passed=line is None)
    if line:
        result.stdout.fnmatch_lines([line])


@pytest.mark.parametrize(
    ("marker", "line"),
    [
        ('flops={"at_most": 0.5, "of": "teacher"}', None),
        # 13,904 FLOPs are 36% of the 38,480 of a kernel of 5 x 5: 13,824 * 25 / 9 + 80.
        (
            'measurements={"student": {"flops": {"at_most": "36%", "of": "teacher"}}}',
            "flops +0.4% over its limit in test_two student",
        ),
        ('measurements={"coach": {"flops": 1}}', "*no measurement of the test matches 'coach'; the test measured*"),
    ],
)
def test_of_two_measurements(project, marker, line):
    project.write(f"@pytest.mark.flops_budget({marker}){TWO}")
    result = project.run()
    result.assert_outcomes(failed=line is not None, passed=line is None)
    if line:
        result.stdout.fnmatch_lines([line])


@pytest.mark.parametrize(
    ("total", "line", "code"),
    [
        ('flops = "50 kFLOPs"', "FAILED: total of the run: flops over its limit: 52.38 kFLOPs > 50 kFLOPs*", 1),
        ('flops = "53 kFLOPs"', None, 0),
        (
            'flops = {max = "53k", warn = "52k"}',
            "total of the run: warning: flops beyond its warning limit: 52.38 kFLOPs > 52 kFLOPs, set by *",
            0,
        ),
        ('peak_memory = "1 GB"', "*total[]] peak_memory: has no sum over measurements", 4),
        ("flops = {min = 1}", "*total[]] flops: needs a max; *", 4),
    ],
)
def test_of_the_whole_run(project, total, line, code):
    # The two models have 13,904 and 38,480 FLOPs.
    project.settings(f"[tool.pytest-flopsbudget.total]\n{total}\n")
    project.write(TWO)
    result = project.run()
    assert result.ret == code
    if line:
        (result.stderr if code == 4 else result.stdout).fnmatch_lines([line])


def test_reports_of_a_run_over_its_total(project):
    """No report says that all is well, although every test is within its own budget."""
    project.settings('[tool.pytest-flopsbudget.total]\nflops = "50 kFLOPs"\n')
    project.write(TWO)
    project.run("--flops-budget-markdown=run.md", "--flops-budget-html=run.html")
    markdown, page = ((project.path / name).read_text(encoding="utf-8") for name in ("run.md", "run.html"))
    assert markdown.startswith("### ❌ Complexity budgets: the run breaks the limit on its total; 1 test within budget")
    assert '<p class="verdict bad">The run breaks the limit on its total; 1 test within budget.</p>' in page


@pytest.mark.parametrize(("required", "code"), [(2, 0), (3, 1)])
def test_required_measurements(project, required, code):
    project.write(TWO)
    result = project.run(f"--flops-budget-require={required}")
    assert result.ret == code
    if code:
        result.stdout.fnmatch_lines(["FAILED: 2 of at least 3 measurements were made, *"])


@pytest.mark.parametrize("number", ["-1", "1.5", "many", ""])
def test_a_wrong_number_of_required_measurements(project, number):
    project.write(TWO)
    result = project.run(f"--flops-budget-require={number}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{number!r} is no number of measurements; write a whole number, as in 12"])


@pytest.mark.parametrize("of", ["qqq", "Teacher2"])
def test_a_share_of_nothing_lists_the_measurements(project, of):
    project.write(
        f'@pytest.mark.flops_budget(flops={{"at_most": 0.5, "of": "{of}"}})\n'
        "def test_net(flops_budget):\n"
        "    flops_budget(Net(), IMAGE, name='teacher')\n    flops_budget(Net(), IMAGE, name='student')\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    shown = " ".join(result.stdout.str().split())  # the terminal's width decides where lines break
    assert f"of: '{of}' is no measurement of the test" in shown
    assert "; the test measured teacher, student " in shown


def test_nothing_but_skipped_budgets(project):
    project.write(f"@pytest.mark.skip{TWO}")
    assert project.run("--flops-budget-require=1").ret == 1


def test_a_measurement_of_a_session_fixture(project):
    project.write(
        """
from pytest_flopsbudget import measure

@pytest.fixture(scope="session")
def measured():
    return measure(Net(), IMAGE)

@pytest.mark.flops_budget(flops="13 kFLOPs")
def test_flops(flops_budget, measured):
    flops_budget(measured)

@pytest.mark.flops_budget(params=162)
def test_params(flops_budget, measured):
    assert flops_budget(measured, name="net") is measured
"""
    )
    result = project.run()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["flops +7.0% over its limit in test_flops"])


def test_mean(project):
    # For images of 8 x 8 and 4 x 4 pixels, the mean is (13,824 + 3,456) / 2 for the convolutions, and 80.
    project.write(
        """
def test_mean(flops_budget):
    images = [IMAGE, torch.empty(1, 3, 4, 4)]
    assert flops_budget.mean(Net(), images).flops == 8_640 + 80
    assert flops_budget.mean(Net(), ({"image": image} for image in images), name="by name").flops == 8_720
"""
    )
    project.run().assert_outcomes(passed=1)


def test_warning(project):
    project.write(
        '@pytest.mark.flops_budget(flops={"warn": "13k", "max": "14k"})\n'
        "def test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n"
    )
    result = project.run("--flops-budget-markdown=run.md")
    result.assert_outcomes(passed=1)
    line = "warning: flops beyond its warning limit: 13.90 kFLOPs > 13 kFLOPs, set by @pytest.mark.flops_budget on *"
    result.stdout.fnmatch_lines([f"test_net.py::test_net: {line}"])
    assert "beyond its warning limit" in project.path.joinpath("run.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("limit", "line"),
    [
        ("flops=14", '*the limit of flops is 14 FLOPs; was "14 k" or "14 G" meant[?]'),
        ('flops="13k"', None),
        ("params=100", None),
    ],
)
def test_a_limit_without_a_prefix(project, limit, line):
    project.write(f"@pytest.mark.flops_budget({limit})\ndef test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n")
    result = project.run()
    if line:
        result.stdout.fnmatch_lines([line])
    else:
        result.stdout.no_fnmatch_line("*meant*")


def test_many_warnings(project):
    """Modules with one limit share a line, and a run has at most ten lines of warnings."""
    project.write(
        """
@pytest.mark.parametrize("number", range(12))
@pytest.mark.flops_budget(modules={"*": {"flops": {"warn": 1}}})
def test_net(flops_budget, number):
    flops_budget(Net(), IMAGE)
"""
    )
    lines = [line for line in project.run().outlines if "warning:" in line or "more warnings" in line]
    assert len(lines) == 11
    assert "flops of stem and of 1 more module beyond its warning limit" in lines[0]
    assert lines[-1] == "and 2 more warnings like these"


MIXTURE = """
from torch import nn
import torch

class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(10, 8)
        self.gate = nn.Linear(8, 4, bias=False)
        self.experts = nn.Parameter(torch.ones(4, 8, 8))

    def forward(self, ids):
        x = self.words(ids)
        chosen = self.experts[self.gate(x).topk(1)[1].flatten()]
        return torch.bmm(chosen, x[:, :, None])
"""


@pytest.mark.parametrize(
    ("marker", "line"),
    [
        # A table of 80, a gate of 32 and one of four experts of 64.
        ('active_params=176, non_embedding_params=288, modules={"words": {"non_embedding_params": 0}}', None),
        ("active_params=175", "active_params +0.6% over its limit in test_net"),
        ('non_embedding_params="0.2k"', "non_embedding_params +44.0% over its limit in test_net"),
    ],
)
def test_parameters_of_a_mixture_of_experts(project, marker, line):
    test = "def test_net(flops_budget):\n    flops_budget(Mixture(), torch.zeros(6, dtype=torch.long))\n"
    project.write(f"{MIXTURE}\n@pytest.mark.flops_budget({marker})\n{test}")
    result = project.run("--flops-budget-update")
    result.assert_outcomes(failed=line is not None, passed=line is None)
    if line:
        result.stdout.fnmatch_lines([f"*{line}*"])
    else:
        assert "active_params" not in project.baseline.read_text()
