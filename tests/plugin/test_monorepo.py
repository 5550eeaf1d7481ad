"""The table of the pyproject that is nearest to a test file holds for its tests."""

from __future__ import annotations

import pytest

TEST = """
import torch, pytest
from torch import nn

def test_net(flops_budget):
    flops_budget(nn.Linear(8, 4), torch.ones(1, 8))  # 2 * 8 * 4 = 64 FLOPs, 8 * 4 + 4 = 36 params
"""
TABLE = "[tool.pytest-flopsbudget]\n"


@pytest.fixture
def repository(project):
    """Writes files by path; the root folder configures pytest."""

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
    """Going up from the test file, the first table holds."""

    def test_package(self, repository):
        """A package's table holds for its tests, and the root's for all others."""
        result = repository(
            pyproject_toml=limit("params", 1),
            a__pyproject_toml=limit("flops", 1),
            a__tests__test_a_py=TEST,
            b__test_b_py=TEST,
        ).run()
        result.stdout.fnmatch_lines(
            [
                "flops over its limit: 64 FLOPs > 1 FLOPs*",
                "*limit set by a/pyproject.toml, [[]tool.pytest-flopsbudget.limits]",
                "params over its limit: 36 > 1*",
                "*limit set by pyproject.toml, [[]tool.pytest-flopsbudget.limits]",
            ]
        )
        result.stdout.no_fnmatch_line("*not used*")
        result.assert_outcomes(failed=2)

    def test_pyproject_without_a_table(self, repository):
        """A pyproject without a table for this plugin does not end the search."""
        result = repository(
            a__pyproject_toml=limit("flops", 1),
            a__b__pyproject_toml="[tool.flopper]\nname = 'flops'\n",
            a__b__test_b_py=TEST,
        ).run()
        result.stdout.fnmatch_lines(["*limit set by a/pyproject.toml, *"])

    def test_workers(self, repository):
        """Workers of pytest-xdist find the same tables."""
        result = repository(a__pyproject_toml=limit("flops", 1), a__test_a_py=TEST, b__test_b_py=TEST).run("-n1")
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*limit set by a/pyproject.toml, *"])

    @pytest.mark.parametrize("name", ["ci", "deeper/ci"])
    def test_configuration_elsewhere(self, project, name):
        """With ``-c ci/pytest.ini``, pytest's root folder is ci; the search goes on above it."""
        folder = project.path / name
        folder.mkdir(parents=True)
        folder.joinpath("pytest.ini").write_text(project.path.joinpath("tox.ini").read_text())
        project.settings(f"{TABLE}show = 'params'\nlimits = {{flops = 1}}\n")
        project.path.joinpath("tests").mkdir()
        project.path.joinpath("tests", "test_a.py").write_text(TEST)
        result = project.run("-c", f"{name}/pytest.ini", "tests")
        result.stdout.fnmatch_lines(["*limit set by ../*pyproject.toml, *", "measurement * params *change *"])
        result.assert_outcomes(failed=1)

    def test_reaction(self, repository):
        """Reactions, tolerances and other settings of tests are the nearest table's too."""
        result = repository(
            a__pyproject_toml=f'{TABLE}missing-baseline = "fail"\n', a__test_a_py=TEST, b__test_b_py=TEST
        ).run()
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(['no baseline, and missing-baseline = "fail"'])

    def test_own_device(self, repository):
        """A package's limits may name devices that the package describes."""
        device = '[tool.pytest-flopsbudget.devices.board]\nbased-on = "T4"\n'
        result = repository(
            a__pyproject_toml=f'{device}[tool.pytest-flopsbudget.limits]\ntime = {{board = "1 ns"}}\n',
            a__test_a_py=TEST,
        ).run()
        result.stdout.fnmatch_lines(["time[[]board] over its limit: *", "*limit set by a/pyproject.toml, *"])


class TestPatterns:
    """Patterns in a pyproject are relative to its folder."""

    def test_match(self, repository):
        """A budget matches wherever pytest is started."""
        project = repository(
            a__pyproject_toml='[[tool.pytest-flopsbudget.budgets]]\nmatch = "tests/test_a.py::*"\nflops = 1\n',
            a__tests__test_a_py=TEST,
        )
        for arguments in ((), ("a",), ("--rootdir=a", "a")):
            result = project.run(*arguments)
            result.assert_outcomes(failed=1)
            result.stdout.fnmatch_lines(["*limit set by *pyproject.toml, [[][[]tool.pytest-flopsbudget.budgets]] 1"])

    def test_watch(self, repository):
        """A package watches its own tests only."""
        plain = "import torch\n\ndef test_plain():\n    torch.nn.Linear(8, 4)(torch.ones(1, 8))\n"
        result = repository(a__pyproject_toml=f'{TABLE}watch = "*"\n', a__test_a_py=plain, b__test_b_py=plain).run("-v")
        result.stdout.fnmatch_lines(["1 measurement: 1 new; *"])


class TestMistakes:
    """Nothing in a nested table is ignored silently."""

    def test_mistake(self, repository):
        """A mistake in a nested table ends the run, although no test is measured."""
        result = repository(a__pyproject_toml=f"{TABLE}tolerence = 1\n", a__test_a_py="def test_a(): pass\n").run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: a/pyproject.toml: [[]tool.pytest-flopsbudget] tolerence: no such key*"])

    def test_all_mistakes(self, repository):
        """The mistakes of all tables are reported together."""
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
        """Keys that hold for a whole run are named where a nested table has them."""
        result = repository(
            a__pyproject_toml=f'{TABLE}github = "auto"\nmachine = "box"\ntolerance = "1%"\n', a__test_a_py=TEST
        ).run(*workers)
        result.stdout.fnmatch_lines(
            ["a/pyproject.toml: github, machine: not used, because a whole run has one value; set it in pyproject.toml"]
        )

    def test_root_keys(self, repository):
        """The root's own keys are used, and named nowhere."""
        result = repository(pyproject_toml=f'{TABLE}show = "params"\n', a__test_a_py=TEST).run()
        result.stdout.no_fnmatch_line("*not used*")
