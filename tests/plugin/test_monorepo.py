"""For each test file, the plugin's table in the nearest pyproject applies."""

from __future__ import annotations

import pytest

TEST = """
import torch, pytest
from torch import nn

def test_net(flops_budget):
    flops_budget(nn.Linear(8, 4), torch.ones(1, 8))  # 2 * 8 * 4 = 64 FLOPs, 8 * 4 + 4 = 36 params
"""
#: The same for runs that do not import PyTorch.
TEST_OF_NET = "from models import *\n\ndef test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n"
TABLE = "[tool.pytest-flopsbudget]\n"


@pytest.fixture
def repository(project):
    """Return a function that writes files by path."""

    def write(**files):
        for name, text in files.items():
            path = project.path / name.replace("__", "/").replace("_toml", ".toml").replace("_py", ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return project

    return write


def limit(metric, value):
    return f"{TABLE}limits = {{{metric} = {value}}}\n"


class TestNearest:
    def test_package(self, repository):
        """If a package has its own table for the plugin, the root's table does not apply to its tests."""
        result = repository(
            pyproject_toml=limit("params", 1),
            a__pyproject_toml=limit("flops", 1),
            a__tests__test_a_py=TEST,
            b__test_b_py=TEST,
        ).run()
        result.stdout.fnmatch_lines(
            [
                "  flops   64 FLOPs *1 FLOPs  a/pyproject.toml limits",
                "  params *36 *1  pyproject limits",
            ]
        )
        result.stdout.no_fnmatch_line("*not used*")
        result.assert_outcomes(failed=2)

    def test_pyproject_without_a_table(self, repository):
        result = repository(
            a__pyproject_toml=limit("flops", 1),
            a__b__pyproject_toml="[tool.flopper]\nname = 'flops'\n",
            a__b__test_b_py=TEST,
        ).run()
        result.stdout.fnmatch_lines(["*a/pyproject.toml limits"])

    def test_workers(self, repository):
        result = repository(
            a__pyproject_toml=limit("flops", 1), a__test_a_py=TEST_OF_NET, b__test_b_py=TEST_OF_NET
        ).run_apart("-n1")
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*a/pyproject.toml limits"])

    @pytest.mark.parametrize("name", ["ci", "deeper/ci"])
    def test_configuration_elsewhere(self, project, name):
        """If pytest's configuration is in another folder, the nearest pyproject still applies."""
        folder = project.path / name
        folder.mkdir(parents=True)
        folder.joinpath("pytest.ini").write_text(project.path.joinpath("tox.ini").read_text())
        project.settings(f"{TABLE}show = 'params'\nlimits = {{flops = 1}}\n")
        project.path.joinpath("tests").mkdir()
        project.path.joinpath("tests", "test_a.py").write_text(TEST)
        result = project.run("-c", f"{name}/pytest.ini", "tests")
        result.stdout.fnmatch_lines(["*../*pyproject.toml limits", "measurement * params *change *"])
        result.assert_outcomes(failed=1)

    def test_reaction(self, repository):
        """Settings such as missing-baseline come from the nearest pyproject."""
        result = repository(
            a__pyproject_toml=f'{TABLE}missing-baseline = "fail"\n', a__test_a_py=TEST, b__test_b_py=TEST
        ).run()
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(['* has no baseline, and missing-baseline = "fail"'])

    def test_own_device(self, repository):
        """The limits of a package may name a device that only this package defines."""
        device = '[tool.pytest-flopsbudget.devices.board]\nbased-on = "T4"\n'
        result = repository(
            a__pyproject_toml=f'{device}[tool.pytest-flopsbudget.limits]\ntime = {{board = "1 ns"}}\n',
            a__test_a_py=TEST,
        ).run()
        result.stdout.fnmatch_lines(["time[[]board] * its limit in *", "*a/pyproject.toml limits"])


class TestPatterns:
    """Patterns in a pyproject are relative to the folder of this file."""

    def test_match(self, repository):
        """A budget's pattern matches the same tests, whatever folder or rootdir the command line names."""
        project = repository(
            a__pyproject_toml='[[tool.pytest-flopsbudget.budgets]]\nmatch = "tests/test_a.py::*"\nflops = 1\n',
            a__tests__test_a_py=TEST,
        )
        for arguments in ((), ("a",), ("--rootdir=a", "a")):
            result = project.run(*arguments)
            result.assert_outcomes(failed=1)
            result.stdout.fnmatch_lines(["*pyproject* budgets 1"])

    def test_watch(self, repository):
        plain = "import torch\n\ndef test_plain():\n    torch.nn.Linear(8, 4)(torch.ones(1, 8))\n"
        result = repository(a__pyproject_toml=f'{TABLE}watch = "*"\n', a__test_a_py=plain, b__test_b_py=plain).run("-v")
        result.stdout.fnmatch_lines(["1 measurement: 1 new; *"])


class TestMistakes:
    def test_mistake(self, repository):
        result = repository(a__pyproject_toml=f"{TABLE}tolerence = 1\n", a__test_a_py="def test_a(): pass\n").run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: a/pyproject.toml: [[]tool.pytest-flopsbudget] tolerence: no such key*"])

    def test_all_mistakes(self, repository):
        result = repository(
            pyproject_toml=f"{TABLE}shw = 1\n",
            a__pyproject_toml="[tool.flopsbudget]\nlimits = {}\n",
            a__test_a_py=TEST,
            b__pyproject_toml=f"{TABLE}show = \n",
            b__test_b_py="def test_b(): pass\n",
        ).run()
        result.stderr.fnmatch_lines(
            [
                "*pyproject.toml: * shw: *",
                "a/pyproject.toml: [[]tool.flopsbudget]: *",
                "b/pyproject.toml: is not valid*",
            ]
        )

    @pytest.mark.parametrize("workers", [(), ("-n1",)])
    def test_keys_of_the_run(self, repository, workers):
        """If the table of a package has keys for the whole run, a line says that they are not used."""
        result = repository(
            a__pyproject_toml=f'{TABLE}github = "auto"\nmachine = "box"\ntolerance = "1%"\n', a__test_a_py=TEST_OF_NET
        ).run_apart(*workers)
        result.stdout.fnmatch_lines(
            ["a/pyproject.toml: github, machine: not used, because a whole run has one value; set it in pyproject.toml"]
        )

    def test_root_keys(self, repository):
        result = repository(pyproject_toml=f'{TABLE}show = "params"\n', a__test_a_py=TEST).run()
        result.stdout.no_fnmatch_line("*not used*")
