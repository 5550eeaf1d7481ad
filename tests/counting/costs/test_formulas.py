"""Users can register formulas, or declare operators free."""

from __future__ import annotations

import re

import pytest
import torch
from custom_operator import scan

from pytest_flopsbudget import UsageError, flops_formula, measure
from pytest_flopsbudget.counting.costs.registry import REGISTRY

IMAGE = torch.empty(2, 5)


@pytest.fixture(autouse=True)
def _restored():
    with REGISTRY.restored():
        yield


class TestDecorator:
    def test_counts(self):
        """A user's formula is called with the arguments of the operator."""
        # 2 FLOPs for each of 10 elements and 4 steps
        assert list(measure(lambda x: scan(x, 4), IMAGE).unknown_operators) == ["flopsbudget_tests.scan"]

        @flops_formula("flopsbudget_tests::scan")
        def formula(call):
            return 2 * call.tensor("x").numel() * call["steps"]

        measured = measure(lambda x: scan(x, 4), IMAGE)
        assert (measured.flops, measured.unknown_operators) == (80, {})
        # An omitted argument has its default value, which is 3 steps.
        assert measure(scan, IMAGE).flops == 60

    def test_another_formula(self):
        """If a second formula is registered for an operator, the second formula replaces the first."""
        for flops in (7, 8):
            flops_formula("flopsbudget_tests::scan")(lambda _, flops=flops: flops)
            assert measure(scan, IMAGE).flops == flops

    def test_in_place_of_ours(self):
        flops_formula("aten::addmm")(lambda _: 1)
        assert measure(torch.nn.Linear(5, 3), IMAGE).flops == 1

    def test_free(self):
        flops_formula("flopsbudget_tests::scan")(lambda _: 0)
        measured = measure(scan, IMAGE)
        assert (measured.flops, measured.other_flops, measured.unknown_operators) == (0, 0, {})

    def test_both_kinds_of_work(self):
        """A formula may return a pair (flops, other_flops)."""

        @flops_formula("flopsbudget_tests::scan")
        def formula(call):
            count = call.tensor("x").numel()
            return 2 * count, 3 * count

        measured = measure(scan, IMAGE)
        assert (measured.flops, measured.other_flops, measured.total_flops) == (20, 30, 50)
        assert measured.modules[""].metrics["other_flops"] == 30
        # The operator reads and writes 10 numbers of 4 bytes. Since it has `flops`, its outputs count as activations.
        assert measured.operators["flopsbudget_tests.scan"].metrics == {
            "flops": 20,
            "other_flops": 30,
            "activations": 10,
            "bit_operations": 10 * 32 * 32,
            "memory_traffic": 2 * 10 * 4,
            "launches": 1,
        }
        assert measured.unknown_operators == {}

    def test_one_number_is_no_other_work(self):
        flops_formula("flopsbudget_tests::scan")(lambda _: 7)
        assert measure(scan, IMAGE).other_flops == 0

    def test_other_work_alone(self):
        flops_formula("flopsbudget_tests::scan")(lambda _: (0, 4))
        measured = measure(scan, IMAGE)
        assert (measured.flops, measured.other_flops, measured.unknown_operators) == (0, 4, {})

    def test_goes_before_our_own(self):
        flops_formula("aten::addmm")(lambda _: (1, 2))
        flops_formula("aten::relu")(lambda _: 0)
        measured = measure(torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.ReLU()), IMAGE)
        assert (measured.flops, measured.other_flops) == (1, 2)

    @pytest.mark.parametrize("name", ["scan", "mylib.scan", "mylib::scan.default", "", 3])
    def test_wrong_names(self, name):
        with pytest.raises(UsageError, match='an operator is named "namespace::name"'):
            flops_formula(name)

    @pytest.mark.parametrize(
        "result", [1.5, -1, None, True, (1,), (1, 2, 3), (1, -1), (1.0, 2), (1, None), (True, 1), [1, 2], ()]
    )
    def test_wrong_results(self, result):
        flops_formula("flopsbudget_tests::scan")(lambda _: result)
        expected = re.escape(
            f"returned {result!r}; FLOPs are a whole number, 0 or more and below 10^100, or a pair of such"
        )
        with pytest.raises(UsageError, match=f"for flopsbudget_tests::scan {expected}"):
            measure(scan, IMAGE)

    def test_a_formula_that_raises(self):
        """If a formula raises an exception, the error quotes it and lists the operator's arguments."""
        flops_formula("flopsbudget_tests::scan")(lambda call: call["y"])
        with pytest.raises(UsageError, match=r"raised KeyError: 'y'; the operator's arguments are x, steps"):
            measure(scan, IMAGE)


OPERATOR = """
from custom_operator import scan

def test_net(flops_budget):
    m = flops_budget(lambda x: scan(x), torch.empty(2, 5))
    assert not m.unknown_operators
    assert (m.flops, m.other_flops) == ({flops}, {other_flops})
"""


class TestPlugin:
    def test_hook(self, project):
        project.pytester.makeconftest(
            "def pytest_flopsbudget_formulas(config):\n"
            "    return {'flopsbudget_tests::scan': lambda call: 2 * call.first_output.numel()}\n"
        )
        project.write(OPERATOR.format(flops=20, other_flops=0))
        project.run().assert_outcomes(passed=1)

    def test_a_pair_from_a_hook(self, project):
        project.pytester.makeconftest(
            "def pytest_flopsbudget_formulas(config):\n"
            "    return {'flopsbudget_tests::scan': lambda call: (0, 3 * call.first_output.numel())}\n"
        )
        project.write(OPERATOR.format(flops=0, other_flops=30))
        project.run().assert_outcomes(passed=1)

    def test_free_operators(self, project):
        project.settings('[tool.pytest-flopsbudget]\nfree-operators = ["flopsbudget_tests::scan"]\n')
        project.write(OPERATOR.format(flops=0, other_flops=0))
        project.run().assert_outcomes(passed=1)

    def test_a_wrong_name_in_a_hook(self, project):
        project.pytester.makeconftest("def pytest_flopsbudget_formulas(config):\n    return {'scan': lambda call: 1}\n")
        project.write(OPERATOR.format(flops=0, other_flops=0))
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*flops_formula('scan'): an operator is named *"])

    def test_a_wrong_name_in_the_pyproject(self, project):
        project.settings('[tool.pytest-flopsbudget]\nfree-operators = ["scan"]\n')
        project.write(OPERATOR.format(flops=0, other_flops=0))
        result = project.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*free-operators: [[]'scan'[]] is not a list of operators; write *"])

    def test_the_message_shows_how(self, project):
        project.write(
            OPERATOR.replace("    assert (m.flops, m.other_flops) == ({flops}, {other_flops})\n", "").replace(
                "assert not", "assert"
            )
        )
        lines = project.run().stdout.lines
        start = lines.index("    from pytest_flopsbudget import flops_formula")
        code = "\n".join(line.removeprefix("    ") for line in lines[start : start + 5])
        assert "flopsbudget_tests::scan" in code
        project.pytester.makeconftest(code)
        project.write(OPERATOR.format(flops=20, other_flops=0))
        project.run().assert_outcomes(passed=1)
