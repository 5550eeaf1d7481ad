"""Which metrics are compared with the baseline, and which are not if PyTorch was upgraded."""

from __future__ import annotations

import json

import pytest

#: With ``COPY`` as ``x.clone()``, the model has the FLOPs of the model without it. It reads and writes 32 bytes more,
#: holds 32 bytes more at its peak, and has a launch and a step more.
COPIES = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(COPY)

MARKER
def test_net(flops_budget):
    flops_budget(Net(), torch.ones(2, 4))
"""


def write(project, *, copies, marker=""):
    project.pytester.makepyfile(
        test_net="import pytest\n" + COPIES.replace("COPY", "x.clone()" if copies else "x").replace("MARKER", marker)
    )


def hold(project, *metrics):
    project.settings(f"[tool.pytest-flopsbudget]\nhold = {json.dumps(metrics)}\n")


@pytest.fixture
def with_baseline(project):
    """Return a project whose model makes a copy. The model in its baseline makes no copy."""
    write(project, copies=False)
    project.run("--flops-budget-update").assert_outcomes(passed=1)
    write(project, copies=True)
    return project


class TestDefault:
    """By default, changes of peak memory, memory traffic, launches and depth do not fail a test."""

    def test_a_copy(self, with_baseline):
        result = with_baseline.run()
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(
            [
                (
                    "moved in 1 measurement, and not held to the baseline: peak_memory, memory_traffic, launches, "
                    "depth; to accept: pytest --flops-budget-update test_net.py::test_net"
                ),
            ]
        )

    def test_values_with_v(self, with_baseline):
        """With -v, the summary lists each value that changed and was not judged."""
        result = with_baseline.run("-v")
        result.stdout.fnmatch_lines(["  launches: 1 ? 2, +1 launches (+100.0%) (not held)"])

    def test_update(self, with_baseline):
        """The command that the summary suggests writes the new values."""
        result = with_baseline.run("--flops-budget-update", "test_net.py::test_net")
        result.stdout.fnmatch_lines(["baseline written: *: 1 moved in metrics that are not judged"])
        with_baseline.run().stdout.no_fnmatch_line("*moved*")

    def test_strict_improvements(self, with_baseline):
        """With improved-baseline = "fail", a smaller value of a metric that is not judged does not fail the test."""
        with_baseline.run("--flops-budget-update")
        write(with_baseline, copies=False)
        with_baseline.settings('[tool.pytest-flopsbudget]\nimproved-baseline = "fail"\n')
        with_baseline.run().assert_outcomes(passed=1)

    def test_flops(self, with_baseline):
        text = with_baseline.baseline.read_text()
        with_baseline.baseline.write_text(text.replace('"flops": 64', '"flops": 63'))
        result = with_baseline.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["flops +1.6% over its baseline *", "  flops *"])
        result.stdout.no_fnmatch_line("  launches *")

    def test_a_limit(self, with_baseline):
        write(with_baseline, copies=True, marker="@pytest.mark.flops_budget(launches=1)")
        with_baseline.run().assert_outcomes(failed=1)


class TestChosen:
    """The metrics that are compared can be chosen in the pyproject, in a budget or in a marker."""

    def test_pyproject(self, with_baseline):
        hold(with_baseline, "launches")
        result = with_baseline.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["launches * over its baseline in *"])
        result.stdout.no_fnmatch_line("  depth *")

    def test_all(self, with_baseline):
        with_baseline.settings('[tool.pytest-flopsbudget]\nhold = "all"\n')
        result = with_baseline.run()
        result.stdout.fnmatch_lines(["  memory_traffic *baseline", "  launches *baseline", "  depth *baseline"])

    def test_nothing(self, with_baseline):
        hold(with_baseline)
        write(with_baseline, copies=True)
        text = with_baseline.baseline.read_text()
        with_baseline.baseline.write_text(text.replace('"flops": 64', '"flops": 63'))
        result = with_baseline.run()
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["moved in 1 measurement, and not held to the baseline: flops, *"])

    def test_budget(self, with_baseline):
        with_baseline.settings(
            '[[tool.pytest-flopsbudget.budgets]]\nmatch = "test_net.py::*"\nhold = ["flops", "depth"]\n'
        )
        result = with_baseline.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["depth * over its baseline in *"])

    @pytest.mark.parametrize(("metrics", "failed"), [(["flops"], 0), (["launches"], 1)])
    def test_marker(self, with_baseline, metrics, failed):
        hold(with_baseline, "depth")
        write(with_baseline, copies=True, marker=f"@pytest.mark.flops_budget(hold={metrics})")
        with_baseline.run().assert_outcomes(failed=failed, passed=1 - failed)

    @pytest.mark.parametrize(("tolerance", "failed"), [("'100%'", 0), ("'99%'", 1)])
    def test_tolerance(self, with_baseline, tolerance, failed):
        """If a tolerance names a metric, the metric is compared with the baseline."""
        write(with_baseline, copies=True, marker=f"@pytest.mark.flops_budget(tolerance={{'launches': {tolerance}}})")
        with_baseline.run().assert_outcomes(failed=failed, passed=1 - failed)

    def test_tolerance_of_everything(self, with_baseline):
        """A tolerance for all metrics does not change which metrics are compared."""
        with_baseline.settings('[tool.pytest-flopsbudget]\ntolerance = "0%"\n')
        with_baseline.run().assert_outcomes(passed=1)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ('["flopz"]', "hold: 'flopz' is none of *; did you mean *flops*?"),
            ('["arithmetic_intensity"]', "hold.arithmetic_intensity: is a ratio, which no baseline holds; *"),
            (
                '["active_params"]',
                "hold.active_params: is in no baseline; name metrics that are, such as flops or params",
            ),
            ('["compute_time"]', "hold.compute_time: is a part of time, and only the sum is compared; hold time"),
            ('"flops"', '''hold: 'flops' is no list of metrics; write ["flops", "params"], or "all"'''),
            ("3", 'hold: 3 is no list of metrics; write ["flops", "params"], or "all"'),
            ("[3]", "hold: 3 is none of *"),
        ],
    )
    def test_mistakes(self, with_baseline, value, message):
        with_baseline.settings(f"[tool.pytest-flopsbudget]\nhold = {value}\n")
        result = with_baseline.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*{message.replace('[', '[[]')}"])


class TestAnotherPyTorch:
    """If the baseline is of another minor version of PyTorch, values that depend on kernels are not judged."""

    @pytest.fixture
    def upgraded(self, with_baseline):
        text = with_baseline.baseline.read_text()
        minor = '"pytorch": "2.'
        assert minor in text
        with_baseline.baseline.write_text(text.replace(minor, '"pytorch": "1.'))
        return with_baseline

    @pytest.mark.parametrize("settings", ["", 'hold = "all"\n'])
    def test_kernels(self, upgraded, settings):
        """If values that depend on kernels changed, one line of the summary counts them."""
        upgraded.settings(f"[tool.pytest-flopsbudget]\n{settings}")
        result = upgraded.run()
        result.assert_outcomes(passed=1)
        (line,) = [line for line in result.outlines if "of kernels moved" in line]
        assert line.startswith("measured with PyTorch 1.")
        # The values are peak_memory, memory_traffic, launches and depth.
        assert line.endswith(
            ": 4 values of kernels moved; to accept: pytest --flops-budget-update test_net.py::test_net"
        )
        result.stdout.no_fnmatch_line("*not held*")

    def test_flops(self, upgraded):
        """FLOPs are judged with every version of PyTorch. The failure names both versions."""
        text = upgraded.baseline.read_text()
        upgraded.baseline.write_text(text.replace('"flops": 64', '"flops": 63'))
        result = upgraded.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["flops * over its baseline *", "the baseline was measured with PyTorch 1.*, this with 2.*"]
        )

    def test_equal_values(self, upgraded):
        """If only the version of PyTorch changed, the summary does not mention it."""
        write(upgraded, copies=False)
        upgraded.run().stdout.no_fnmatch_line("*PyTorch 1.*")
        upgraded.run("--flops-budget-update")
        assert '"pytorch": "2.' in upgraded.baseline.read_text()

    def test_a_limit(self, upgraded):
        write(upgraded, copies=True, marker="@pytest.mark.flops_budget(launches=1)")
        upgraded.run().assert_outcomes(failed=1)

    def test_unknown_version(self, upgraded):
        """If the baseline does not name a version of PyTorch, values that depend on kernels are judged."""
        lines = upgraded.baseline.read_text().split("\n")
        assert any('"pytorch": "1.' in line for line in lines)
        upgraded.baseline.write_text(
            "\n".join(
                line[: line.index(', "pytorch"')] + line[line.index(', "test"') :] if '"pytorch"' in line else line
                for line in lines
            )
        )
        hold(upgraded, "launches")
        upgraded.run().assert_outcomes(failed=1)
