"""Runs with hostile names, absurd numbers and impossible paths."""

from __future__ import annotations

import unicodedata

import pytest

NAMES = r"""
import torch

Evil = type("\x1b[31mEvil\n::error::class", (torch.nn.Module,), {"forward": lambda self, x: self._modules[CHILD](x)})
CHILD = "\n::error::child\x00\u202e"

def model():
    evil = Evil()
    evil.add_module(CHILD, torch.nn.Linear(4, 4))
    return evil

@pytest.mark.flops_budget(flops=1, modules={"::error::pattern*": {"flops": 3}})
def test_over(flops_budget):
    flops_budget(model(), torch.zeros(1, 4), name="::error::\x1b[2J\nname")

def test_new(flops_budget):
    flops_budget(model(), torch.zeros(1, 4), name="##[error]x")
"""


def check(text):
    """Check that no line contains a control character or a command to a CI system."""
    for line in text.split("\n"):
        assert not [sign for sign in line if unicodedata.category(sign) in {"Cc", "Cf"}], line
        assert not line.lstrip().startswith("::"), line
        assert "##[" not in line


@pytest.mark.parametrize(
    "options",
    [[], ["-v"], ["-q"], ["-rA"], ["--flops-budget-update"], ["--flops-budget-explain=test_net.py::test_over"]],
)
def test_names(project, options):
    project.write(NAMES)
    result = project.run("--color=no", *options)
    check(result.stdout.str())
    check(result.stderr.str())
    assert r"\n::error::child\x00\u202e" in result.stdout.str()


class TestNumbers:
    @pytest.mark.parametrize(
        "value", ["10**308", "10**309", "10**5000", "2**64000", "1e300", "[10**5000]", "-10**5000"]
    )
    @pytest.mark.parametrize(
        "key", ["flops", "params", "peak_memory", "modules={'': {'flops': VALUE}}, flops", "tolerance"]
    )
    def test_in_a_marker(self, project, key, value):
        key = key.replace("VALUE", value)
        project.write(
            f"@pytest.mark.flops_budget({key}={value})\ndef test_a(flops_budget):\n    flops_budget(Net(), IMAGE)\n"
        )
        result = project.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
        result.stderr.fnmatch_lines([f"*flops_budget on *::test_a: {key.rpartition(' ')[2]}: *"])

    @pytest.mark.parametrize("digits", [309, 400, 4300])
    @pytest.mark.parametrize("key", ["flops", "time.A100", "tolerance.flops", "latency-run-time", "show", "watch"])
    def test_in_the_pyproject(self, project, key, digits):
        table = "" if key in {"latency-run-time", "show", "watch", "tolerance.flops"} else ".limits"
        project.settings(f"[tool.pytest-flopsbudget{table}]\n{key} = 1{'0' * (digits - 1)}\n")
        project.write("def test_a(flops_budget):\n    flops_budget(Net(), IMAGE)\n")
        result = project.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
        result.stderr.fnmatch_lines([f"*pyproject.toml: *{key}: 1000*"])

    def test_of_a_formula(self, project):
        project.write(
            """
import torch
from pytest_flopsbudget import flops_formula

@torch.library.custom_op("hostile::scan", mutates_args=())
def scan(x: torch.Tensor) -> torch.Tensor:
    return x.clone()

scan.register_fake(torch.empty_like)

@pytest.mark.parametrize("cost", [10**100, 10**400, 2**40000, (1, 10**400)], ids=range(4))
def test_a(flops_budget, cost):
    flops_formula("hostile::scan")(lambda call: cost)
    flops_budget(scan, torch.zeros(3))
"""
        )
        result = project.run_apart_with_torch()
        result.assert_outcomes(failed=4)
        message = "*hostile::scan returned *; FLOPs are a whole number, 0 or more and below 10^100*"
        result.stdout.fnmatch_lines([part for number in range(4) for part in (f"*test_a[[]{number}]*", message)])


@pytest.mark.parametrize("flag", ["json", "markdown", "csv", "gitlab", "explain"])
@pytest.mark.parametrize("name", ["a" * 5000, f"{'a' * 5000}/x", "a/" * 3000 + "x"], ids=["long", "folder", "deep"])
def test_paths(project, flag, name):
    """If a flag names a path that no file can have, pytest ends with a usage error."""
    project.write("def test_a(flops_budget):\n    flops_budget(Net(), IMAGE)\n")
    result = project.run(f"--flops-budget-{flag}={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    result.stderr.fnmatch_lines([f"ERROR: --flops-budget-{flag}=*"])
