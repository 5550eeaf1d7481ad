"""A run names what it did not check: patterns that match no test, and budgets whose tests did not run."""

from __future__ import annotations

import pytest

BUDGET = '[[tool.pytest-flopsbudget.budgets]]\nmatch = "{}"\nflops = "1G"\n'
NOT_MEASURED = "*matches no test*"
TWO = """
def test_wide(flops_budget):
    flops_budget(NET, IMAGE)

def test_narrow(flops_budget):
    flops_budget(NET, IMAGE)
"""


@pytest.fixture
def two(project):
    project.write("NET, IMAGE = torch.nn.Linear(8, 4), torch.ones(1, 8)\n" + TWO)
    return project


class TestPatterns:
    """If a run collects all tests, it reports each pattern that matches no test."""

    @pytest.mark.parametrize(
        ("pattern", "near"),
        [
            ("test_ent.py::*", "test_net.py"),
            ("tests/test_net.py::*", "test_net.py"),
            ("test_net.py::test_wyde", "test_net.py::test_wide"),
            ("test_net.py::TestNet::*", "test_net.py::test_narrow, test_net.py::test_wide"),
            ("Test_net.py::*", "test_net.py"),
        ],
    )
    def test_near_names(self, two, pattern, near):
        two.settings(BUDGET.format(pattern))
        result = two.run()
        (line,) = [line for line in result.outlines if "matches no test" in line]
        place = "pyproject.toml, [[tool.pytest-flopsbudget.budgets]] 1: match"
        assert line.startswith(f'{place} "{pattern}" matches no test; near names: ')
        assert set(near.split(", ")) <= set(line.partition("near names: ")[2].split(", "))
        result.assert_outcomes(passed=2)

    def test_workers(self, project):
        project.write("NET = Net()\n" + TWO)
        project.settings(BUDGET.format("test_ent.py::*"))
        lines = [line for line in project.run_apart("-n2").outlines if "matches no test" in line]
        assert len(lines) == 1

    def test_watch(self, two):
        """Each pattern of the setting `watch` is checked separately."""
        two.settings('[tool.pytest-flopsbudget]\nwatch = ["test_net.py::*", "test_else.py::*"]\n')
        lines = [line for line in two.run().outlines if "matches no test" in line]
        assert lines == ['pyproject.toml: watch "test_else.py::*" matches no test; near names: test_net.py']

    def test_no_tests(self, project):
        project.settings(BUDGET.format("test_ent.py::*"))
        project.run().stdout.fnmatch_lines(["*matches no test; this pyproject applies to no test of the run"])

    @pytest.mark.parametrize("pattern", ["*", "test_net.py::*", "test_*", "*::test_wide"])
    def test_matching(self, two, pattern):
        two.settings(BUDGET.format(pattern))
        two.run("-k", "narrow").stdout.no_fnmatch_line(NOT_MEASURED)

    @pytest.mark.parametrize(
        "arguments",
        [
            ("test_other.py",),
            ("test_net.py::test_wide",),
            ("--ignore=test_ent.py",),
            ("--collect-only",),
            ("--flops-budget-disable",),
        ],
    )
    def test_incomplete(self, two, arguments):
        """If a run cannot know whether a pattern matches a test, it does not report the pattern."""
        two.write("def test_other(): pass\n", "test_other")
        two.settings(BUDGET.format("test_ent.py::*"))
        two.run(*arguments).stdout.no_fnmatch_line(NOT_MEASURED)

    def test_part_of_a_file(self, two):
        """If the command line names one test of a file, the run does not report patterns for this file."""
        two.settings(BUDGET.format("test_net.py::test_wyde"))
        two.run("test_net.py").stdout.fnmatch_lines([NOT_MEASURED])
        two.run("test_net.py::test_wide").stdout.no_fnmatch_line(NOT_MEASURED)

    def test_skipped_file(self, two):
        """If a file skips its own collection, the run does not report patterns for this file."""
        two.write("pytest.importorskip('no_such_package')\n", "test_ent")
        two.settings(BUDGET.format("test_ent.py::*") + BUDGET.format("test_tne.py::*"))
        lines = [line for line in two.run().outlines if "matches no test" in line]
        assert [line.split('"')[1] for line in lines] == ["test_tne.py::*"]

    def test_another_table(self, project):
        """If a pattern matches only tests that have a nearer pyproject, the message names this pyproject."""
        folder = project.path / "a"
        folder.mkdir()
        folder.joinpath("test_a.py").write_text("def test_a(): pass\n")
        folder.joinpath("pyproject.toml").write_text("[tool.pytest-flopsbudget]\n")
        project.settings(BUDGET.format("a/*"))
        project.run().stdout.fnmatch_lines(
            ['*match "a/[*]" matches no test; the tests that it matches have their settings in a/pyproject.toml']
        )

    def test_testpaths(self, project):
        """With the setting testpaths, the run does not report patterns for other folders."""
        project.path.joinpath("tox.ini").write_text(
            "[pytest]\ntestpaths = tests\nasyncio_default_fixture_loop_scope = function\n"
        )
        for folder in ("tests", "slow"):
            project.path.joinpath(folder).mkdir()
            project.path.joinpath(folder, f"test_{folder}.py").write_text("def test_a(): pass\n")
        project.settings("".join(map(BUDGET.format, ("slow/*", "slow/test_slow.py::*", "tests/test_ests.py::*"))))
        lines = [line for line in project.run().outlines if "matches no test" in line]
        assert [line.split('"')[1] for line in lines] == ["tests/test_ests.py::*"]


class TestNothingChecked:
    """If each test with a budget was skipped, deselected or xfailed, a line says that no budget was checked."""

    @pytest.mark.parametrize("workers", [(), ("-n1",)])
    def test_skipped(self, project, workers):
        """The line "no flops budget was checked" counts skipped tests and tests that failed as expected."""
        project.write(
            "@pytest.mark.skip\n@pytest.mark.flops_budget\ndef test_a(): pass\n\n"
            "def test_b(flops_budget):\n    pytest.skip('no GPU')\n\n"
            "@pytest.mark.xfail\ndef test_c(flops_budget):\n    assert False\n\n"
            "def test_without(): pass\n"
        )
        result = project.run_apart("-q", *workers)
        line = "no flops budget was checked: of the 3 tests with a budget, 2 skipped, 1 failed as expected"
        result.stdout.fnmatch_lines([line])

    def test_deselected(self, two):
        """The line "no flops budget was checked" counts tests that -k or --deselect left out."""
        two.write("def test_other(): pass\n", "test_other")
        line = "no flops budget was checked: of the 2 tests with a budget, 2 deselected"
        two.run("-k", "other").stdout.fnmatch_lines([line])
        two.run("--deselect=test_net.py").stdout.fnmatch_lines([line])

    def test_one(self, project):
        """The line "no flops budget was checked" also counts tests that the pyproject watches."""
        project.settings('[tool.pytest-flopsbudget]\nwatch = "*"\n')
        project.write("@pytest.mark.skipif(True, reason='no GPU')\ndef test_a(): pass\n")
        line = "no flops budget was checked: of the one test with a budget, 1 skipped"
        project.run().stdout.fnmatch_lines([line])

    @pytest.mark.parametrize(
        ("body", "arguments"),
        [
            ("def test_a(): pass\n", ()),
            ("@pytest.mark.skip\ndef test_a(): pass\n", ()),
            (f"NET, IMAGE = torch.nn.Linear(8, 4), torch.ones(1, 8)\n{TWO}", ("-k", "wide")),
            ("@pytest.mark.skip\n@pytest.mark.flops_budget\ndef test_a(): pass\n", ("--flops-budget-disable",)),
            ("@pytest.mark.skip\n@pytest.mark.flops_budget\ndef test_a(): pass\n", ("--collect-only",)),
            ("@pytest.mark.flops_budget\ndef test_a(): assert False\n", ()),
        ],
    )
    def test_silent(self, project, body, arguments):
        """If a budget was checked, or if no test has one, a run does not print "no flops budget was checked"."""
        project.write(body)
        project.run(*arguments).stdout.no_fnmatch_line("*no flops budget was checked*")
