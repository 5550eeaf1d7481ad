"""Measurements of tests that fail for another reason than their budget."""

from __future__ import annotations

import pytest
from features import requires

from pytest_flopsbudget.storage.report_file import load

BROKEN = "@pytest.mark.flops_budget(flops=1)\n"
MEASURING = "def test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n"
UNITTEST = """
import unittest

class TestNet(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _take(self, flops_budget):
        self.flops_budget = flops_budget

"""


def test_the_broken_budget_is_told_after_it(project):
    """If a test raises an exception and breaks its budget, a section below the traceback shows the broken limit."""
    project.write(BROKEN + MEASURING + "    assert 1 == 2\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * assert 1 == 2", "*- flops budget -*", "flops x13.9k its limit in test_net"])
    result.stdout.fnmatch_lines(["  test_net * over limit", "FAILED test_net.py::test_net - assert 1 == 2"])


def test_unittest(project):
    project.write(
        UNITTEST + "    @pytest.mark.flops_budget(flops=1)\n"
        "    def test_net(self):\n        self.flops_budget(Net(), IMAGE)\n        self.assertEqual(1, 2)\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * AssertionError: 1 != 2", "*- flops budget -*", "flops x13.9k its limit in *"])


def test_nothing_was_measured_yet(project):
    project.write(BROKEN + "def test_net(flops_budget):\n    assert 1 == 2\n")
    text = project.run().stdout.str()
    assert "assert 1 == 2" in text
    assert "measured nothing" not in text


def test_a_wrong_marker_added_while_it_runs(project):
    marked = MEASURING.replace("(flops_budget)", "(flops_budget, request)")
    marked += "    request.node.add_marker(pytest.mark.flops_budget(flop=1))\n"
    project.write(marked)
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_net.py:4: @pytest.mark.flops_budget on test_net.py::test_net: flop: no such *"])
    project.write(marked + "    assert 1 == 2\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED test_net.py::test_net - assert 1 == 2"])


def test_pytest_fail(project):
    project.write(BROKEN + MEASURING + "    pytest.fail('because')\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED test_net.py::test_net - Failed: because"])


def test_a_wrong_call_in_unittest(project):
    project.write(UNITTEST + "    def test_net(self):\n        self.flops_budget(Net())\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_net.py:13: flops_budget(model, args): there is no tensor *"])


def test_a_wrong_call_that_is_expected(project):
    project.write(
        "from pytest_flopsbudget import UsageError\n\ndef test_net(flops_budget):\n"
        "    with pytest.raises(UsageError, match='no tensor'):\n        flops_budget(Net())\n"
    )
    project.run().assert_outcomes(passed=1)


def test_a_fixture_that_measures(project):
    project.write(
        "@pytest.fixture\ndef net(flops_budget):\n    flops_budget(Net(), IMAGE)\n\n"
        f"{BROKEN}def test_net(net):\n    pass\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["flops x13.9k its limit in *"])


def test_a_fixture_that_measures_too_late(project):
    """If a fixture measures after the body of the test, an error says so."""
    project.write(
        "@pytest.fixture\ndef net(flops_budget):\n    yield\n    flops_budget(Net(), IMAGE)\n\n"
        "def test_net(net):\n    pass\n"
    )
    result = project.run()
    result.assert_outcomes(passed=1, errors=1)
    # The message is one line that names the line in the fixture, without a traceback.
    result.stdout.fnmatch_lines(["test_net.py:7: flops_budget(...) was called after the test's body*"])
    assert "_closed" not in result.stdout.str()


def test_a_fixture_that_measures_wrongly(project):
    """If a fixture calls `flops_budget` wrongly, the message is one line that names the place."""
    project.write("@pytest.fixture\ndef net(flops_budget):\n    flops_budget(Net())\n\ndef test_net(net):\n    pass\n")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["test_net.py:6: flops_budget(model, args): there is no tensor *"])
    assert "reprlib" not in result.stdout.str()


def test_an_update_does_not_accept_what_it_does_not_write(project):
    project.write(MEASURING)
    project.run("--flops-budget-update")
    project.write(MEASURING.replace("Net()", "Net(kernel=5)") + "    assert 0\n")
    result = project.run("--flops-budget-update")
    result.stdout.fnmatch_lines(["1 measurement: 1 regressed; *"])


def test_a_test_that_no_longer_measures(project):
    project.write(MEASURING)
    project.run("--flops-budget-update")
    before = project.baseline.read_bytes()
    project.write("def test_net(flops_budget):\n    pass\n")
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_net.py::test_net: in the baseline, but no longer measured: model"])
    project.run("--flops-budget-update").assert_outcomes(passed=1)
    assert project.baseline.read_bytes() == before


def test_a_test_that_takes_the_fixture_in_vain(project):
    project.write("def test_net(flops_budget):\n    pass\n")
    result = project.run()
    result.assert_outcomes(passed=1)
    assert "flops budgets" not in result.stdout.str()


@requires("subtests")
class TestSubtests:
    def test_a_part_that_fails(self, project):
        """If a subtest fails, an update keeps the entry of the test."""
        project.write(MEASURING)
        project.run("--flops-budget-update")
        before = project.baseline.read_bytes()
        project.write(
            "def test_net(flops_budget, subtests):\n    with subtests.test('wide'):\n"
            "        flops_budget(Net(width=8), IMAGE)\n        assert 0\n"
        )
        result = project.run("--flops-budget-update")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        assert project.baseline.read_bytes() == before

    def test_of_unittest(self, project):
        """If a subtest of unittest fails, an update keeps the entry, although unittest reports the test as passed."""
        project.write(MEASURING)
        project.run("--flops-budget-update")
        before = project.baseline.read_bytes()
        project.write(
            UNITTEST + "    def test_parts(self):\n        with self.subTest('wide'):\n"
            "            self.flops_budget(Net(width=8), IMAGE)\n            assert 0\n"
        )
        result = project.run("--flops-budget-update", "--flops-budget-json=run.json")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        assert project.baseline.read_bytes() == before
        (test,) = load(project.path / "run.json").tests
        assert (test.outcome, test.own_failure) == ("failed", True)


class TestDisabled:
    def test_holds_nothing_wrong_against_the_run(self, project):
        """With --flops-budget-disable, a run passes despite a damaged baseline and a wrong marker."""
        project.baseline.parent.mkdir()
        project.baseline.write_text("{", encoding="utf-8")
        project.write("@pytest.mark.flops_budget(flop=1)\n" + MEASURING)
        project.run("--flops-budget-disable").assert_outcomes(passed=1)
        assert project.baseline.read_text() == "{"

    def test_damaged_pyproject(self, project):
        project.settings("[tool.pytest-flopsbudget]\nshortcut = 1\n")
        project.write(MEASURING)
        project.run("--flops-budget-disable").assert_outcomes(passed=1)
        assert project.run().ret == pytest.ExitCode.USAGE_ERROR

    def test_contradicts_an_update(self, project):
        result = project.run("--flops-budget-disable", "--flops-budget-update")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: --flops-budget-update and --flops-budget-disable contradict each other*"])


class TestPlaces:
    def test_a_parameter_set(self, project):
        project.write(
            "@pytest.mark.parametrize('x', [1, pytest.param(2, marks=pytest.mark.flops_budget(flop=1))])\n"
            "def test_net(flops_budget, x): pass\n"
        )
        result = project.run()
        result.stderr.fnmatch_lines(["ERROR: @pytest.mark.flops_budget on test_net.py::test_net[[]2[]]: flop: *"])

    def test_the_class_and_the_module(self, project):
        project.write(
            "pytestmark = pytest.mark.flops_budget(parms=1)\n\n"
            "@pytest.mark.flops_budget(flop=1)\nclass TestNet:\n    def test_net(self, flops_budget): pass\n"
        )
        result = project.run()
        result.stderr.fnmatch_lines_random(
            [
                "*@pytest.mark.flops_budget on test_net.py: parms: no such key; did you mean params?*",
                "*@pytest.mark.flops_budget on test_net.py::TestNet: flop: no such key; did you mean flops?*",
            ]
        )
