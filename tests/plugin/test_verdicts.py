"""When a test fails because of its budget, and with which message."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from conftest import NET_FLOPS, NET_PARAMS
from inner_runs import IN_ORDER, WITH


def measuring(marker="", model="Net()", name="test_net"):
    return f"{marker}\ndef {name}(flops_budget):\n    flops_budget({model}, IMAGE)\n"


class TestLimits:
    def test_within(self, project):
        project.write(measuring(f"@pytest.mark.flops_budget(flops={NET_FLOPS}, params={NET_PARAMS})"))
        project.run().assert_outcomes(passed=1)

    def test_broken_by_one(self, project):
        """Values and limits are compared as exact integers."""
        project.write(measuring(f"@pytest.mark.flops_budget(flops={NET_FLOPS - 1})"))
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "flops <0.01% over its limit in test_net",
                "  flops   13.904 kFLOPs  <0.01%  13.903 kFLOPs  marker",
                "  13.82 kFLOPs  stem: Conv2d(3?4, 3?3)",
                "      80 FLOPs  head: Linear(4?10)",
            ]
        )

    def test_all_of_them(self, project):
        project.write(
            """
            @pytest.mark.flops_budget(flops="1 kFLOPs", params=100, modules={"stem": {"flops": "2k"}})
            def test_net(flops_budget):
                flops_budget(Net(), IMAGE, name="small")
                flops_budget(Net(width=8), IMAGE, name="wide")
            """.replace("\n            ", "\n")
        )
        result = project.run()
        text = result.stdout.str()
        for name in ("small", "wide"):
            assert f"its limit in test_net {name}" in text
        for what in ("flops", "params", "flops of stem"):
            assert text.count(f"\n  {what}  ") == 2

    def test_the_closest_wins(self, project):
        """For each metric, the limit that is closest to the test applies."""
        project.settings(
            "[tool.pytest-flopsbudget.limits]\nparams = 1\nflops = 1\nbuffer_bytes = 0\n"
            '[[tool.pytest-flopsbudget.budgets]]\nmatch = "test_net.py::*"\nparams = "1k"\nflops = 2\n'
        )
        project.write(
            """
pytestmark = pytest.mark.flops_budget(flops=3)

@pytest.mark.flops_budget(flops=4)
class TestNet:
    @pytest.mark.flops_budget(flops="1M")
    def test_function(self, flops_budget):
        flops_budget(Net(), IMAGE)

    def test_class(self, flops_budget):
        flops_budget(Net(), IMAGE)

def test_module(flops_budget):
    flops_budget(Net(), IMAGE)
"""
        )
        result = project.run()
        result.assert_outcomes(passed=1, failed=2)
        result.stdout.fnmatch_lines(
            [
                "  flops *13.90 kFLOPs *4 FLOPs  marker on TestNet",
                "  flops *13.90 kFLOPs *3 FLOPs  marker on test_net.py",
            ]
        )

    def test_budgets_by_pattern(self, project):
        """If two budgets match a test, the later one applies."""
        project.settings(
            '[[tool.pytest-flopsbudget.budgets]]\nmatch = ["*"]\nflops = 1\n'
            '[[tool.pytest-flopsbudget.budgets]]\nmatch = ["*::test_net[[]a]", "*::test_net[b]"]\nflops = "1M"\n'
        )
        project.write(
            "@pytest.mark.parametrize('x', ['a', 'b'])\n" + measuring(name="test_net").replace("(fl", "(x, fl", 1)
        )
        result = project.run()
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["FAILED test_net.py::test_net[[]a[]] - flops x13.9k its limit *"])

    def test_a_pattern_that_matches_no_module(self, project):
        project.write(measuring('@pytest.mark.flops_budget(modules={"sten": {"flops": "1M"}})'))
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "  modules: no module of Net matches 'sten'; near names: stem (set by marker)",
                "  its modules: stem, head",
            ]
        )

    def test_patterns_for_every_model_may_match_nothing(self, project):
        project.settings('[tool.pytest-flopsbudget.limits.modules]\n"layer4*" = {flops = 1}\n')
        project.write(measuring())
        project.run().assert_outcomes(passed=1)

    def test_macs_are_half_the_flops(self, project):
        project.write(measuring(f"@pytest.mark.flops_budget(macs={NET_FLOPS // 2})"))
        project.run().assert_outcomes(passed=1)
        project.write(measuring(f"@pytest.mark.flops_budget(flops='{NET_FLOPS // 2 - 1} MACs')"))
        project.run().assert_outcomes(failed=1)


class TestBaseline:
    def test_growth_fails_and_names_the_layer(self, project):
        project.write(measuring())
        project.run("--flops-budget-update").assert_outcomes(passed=1)
        project.write(measuring(model="Net(kernel=5)"))
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                # 2·8·8·4·3·5·5 = 38,400 FLOPs instead of 13,824.
                "flops +176.8% over its baseline by stem in test_net",
                "  stem: Conv2d(3?4, 3?3) ? Conv2d(3?4, 5?5) (models.py:7)",
                "  metric        before           now   change    allowed  set by",
                "  flops   13.90 kFLOPs  38.48 kFLOPs  +176.8%  no growth  baseline",
                "  params           162           354  +118.5%  no growth  baseline",
                "to accept: pytest --flops-budget-update test_net.py::test_net",
            ]
        )

    def test_new_and_removed_modules_and_classes(self, project):
        project.write(measuring(model="nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3))"))
        project.run("--flops-budget-update")
        project.write(
            measuring(
                model="nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 4, 1), "
                "nn.ConvTranspose2d(4, 4, 3), nn.Conv2d(4, 4, 1))"
            )
        )
        project.run().stdout.fnmatch_lines_random(
            [
                "  0: Conv2d(3?4, 3?3) ? Conv2d(3?64, 3?3)",
                "  2: Conv2d(4?4, 3?3) ? ConvTranspose2d(4?4, 3?3)",
                "  3: new Conv2d(4?4, 1?1)",
            ]
        )
        project.write(measuring(model="nn.Sequential(nn.Conv2d(3, 640, 3))"))
        project.run().stdout.fnmatch_lines_random(["  1: removed Conv2d(4?4, 1?1)", "  2: removed Conv2d(4?4, 3?3)"])

    def test_a_changed_input_is_told(self, project):
        project.write(measuring())
        project.run("--flops-budget-update")
        project.write(measuring().replace("IMAGE", "torch.empty(2, 3, 8, 8)"))
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["another input, float32[[]1, 3, 8, 8] ? float32[[]2, 3, 8, 8]: flops +100.0% over its baseline in *"]
        )

    def test_tolerance(self, project):
        project.write(measuring())
        project.run("--flops-budget-update")
        project.settings('[tool.pytest-flopsbudget]\ntolerance = "200%"\n')
        project.write(measuring(model="Net(kernel=5)"))
        project.run().assert_outcomes(passed=1)
        project.write(
            measuring('@pytest.mark.flops_budget(tolerance={"flops": "24_576 FLOPs"})', model="Net(kernel=5)")
        )
        project.run().assert_outcomes(passed=1)
        project.write(
            measuring('@pytest.mark.flops_budget(tolerance={"flops": "24_575 FLOPs"})', model="Net(kernel=5)")
        )
        project.run().assert_outcomes(failed=1)

    def test_improvement(self, project):
        project.write(measuring(model="Net(kernel=5)"))
        project.run("--flops-budget-update")
        project.write(measuring())
        result = project.run()
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(
            ["1 test improved; tighten the baseline: pytest --flops-budget-update=improved test_net.py::test_net"]
        )
        project.settings('[tool.pytest-flopsbudget]\nimproved-baseline = "fail"\n')
        project.run().assert_outcomes(failed=1)

    @pytest.mark.parametrize(
        ("reaction", "failed", "told"), [("fail", 1, True), ("warn", 0, True), ("ignore", 0, False)]
    )
    def test_missing(self, project, reaction, failed, told):
        project.settings(f'[tool.pytest-flopsbudget]\nmissing-baseline = "{reaction}"\n')
        project.write(measuring())
        result = project.run()
        result.assert_outcomes(failed=failed, passed=1 - failed)
        assert ("without a baseline; write it" in result.stdout.str()) == told


@pytest.mark.parametrize(("reaction", "failed", "told"), [("fail", 1, True), ("warn", 0, True), ("ignore", 0, False)])
def test_unknown_operators(project, reaction, failed, told):
    project.settings(f'[tool.pytest-flopsbudget]\nunknown-operators = "{reaction}"\n')
    project.write(
        f"""
@torch.library.custom_op("mine::twice_{reaction}", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2

@twice.register_fake
def _(x):
    return torch.empty_like(x)

def test_net(flops_budget):
    m = flops_budget(lambda x: twice(x), IMAGE)
    assert list(m.unknown_operators) == ["mine.twice_{reaction}"]
"""
    )
    result = project.run()
    result.assert_outcomes(failed=failed, passed=1 - failed)
    assert (f"mine.twice_{reaction}: 1 call" in result.stdout.str()) == told


class TestLikeAnAssert:
    BROKEN = "@pytest.mark.flops_budget(flops=1)"

    def test_own_failure_first(self, project):
        project.write(
            f"{self.BROKEN}\ndef test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n    assert 1 == 2\n"
        )
        result = project.run()
        result.assert_outcomes(failed=1)
        assert "assert 1 == 2" in result.stdout.str()
        assert "FAILED test_net.py::test_net - assert 1 == 2" in result.stdout.str()

    def test_the_body_runs_to_its_end(self, project):
        project.write(measuring(self.BROKEN) + "    print('the end')\n")
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["the end"])

    def test_no_traceback(self, project):
        project.write(measuring(self.BROKEN))
        text = project.run().stdout.str()
        assert "Traceback" not in text
        assert "plugin.py" not in text

    @pytest.mark.parametrize(
        "arguments", ["", "strict=True", "raises=AssertionError", "strict=True, raises=AssertionError"]
    )
    def test_xfail(self, project, arguments):
        project.write(measuring(f"@pytest.mark.xfail({arguments})\n{self.BROKEN}"))
        project.run().assert_outcomes(xfailed=1)

    def test_xfail_of_another_kind(self, project):
        project.write(measuring(f"@pytest.mark.xfail(raises=KeyError)\n{self.BROKEN}"))
        project.run().assert_outcomes(failed=1)

    def test_strict_xfail_that_passes(self, project):
        project.write(measuring("@pytest.mark.xfail(strict=True)"))
        project.run().assert_outcomes(failed=1)

    def test_skip_in_the_body(self, project):
        project.write(measuring(self.BROKEN) + "    pytest.skip('no')\n")
        project.run().assert_outcomes(skipped=1)

    def test_exitfirst_and_lastfailed(self, project):
        project.write(measuring(self.BROKEN, name="test_a") + measuring(name="test_b"))
        run = project.pytester.runpytest_inprocess
        run(*IN_ORDER, "-x").assert_outcomes(failed=1)
        run(*IN_ORDER, "--lf").assert_outcomes(failed=1, deselected=0)

    def test_parametrized(self, project):
        project.write(
            """
@pytest.mark.parametrize("width", [4, pytest.param(8, marks=pytest.mark.flops_budget(flops=1))])
def test_net(flops_budget, width):
    flops_budget(Net(width=width), IMAGE)
"""
        )
        result = project.run()
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["FAILED test_net.py::test_net[[]8] - *"])

    def test_unittest(self, project):
        project.write(
            f"""
import unittest

class TestNet(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _take(self, flops_budget):
        self.flops_budget = flops_budget

    {self.BROKEN}
    def test_net(self):
        self.flops_budget(Net(), IMAGE)
"""
        )
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["flops x13.9k its limit in *"])

    def test_async(self, project):
        project.write("@pytest.mark.asyncio\n" + measuring(self.BROKEN).replace("def ", "async def "))
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["flops x13.9k its limit in *"])

    def test_hypothesis(self, project):
        """If Hypothesis runs several examples, the largest measurement counts."""
        project.write(
            """
from hypothesis import HealthCheck, given, settings, strategies as st

@pytest.mark.flops_budget(flops=13_904)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=5)
@given(size=st.sampled_from([4, 8, 9]))
def test_net(flops_budget, size):
    flops_budget(Net(), torch.empty(1, 3, size, size))
    flops_budget(Net(), torch.empty(1, 3, 9, 9))
"""
        )
        result = project.run(*WITH["hypothesispytest"])
        result.assert_outcomes(failed=1)
        # 2·9·9·4·3·3·3 + 80 = 17,576 FLOPs.
        result.stdout.fnmatch_lines(["  flops   17.58 kFLOPs *", "  the largest of * measurements"])

    def test_junit(self, project):
        project.write(measuring(self.BROKEN))
        project.run("--junit-xml=out.xml", "-o", "junit_family=xunit2")
        suite = ET.parse(project.path / "out.xml").getroot()[0]  # noqa: S314 -- written two lines above
        assert (suite.attrib["failures"], suite.attrib["errors"]) == ("1", "0")
        assert suite[0].find("failure").attrib["message"].startswith("flops x13.9k its limit in ")

    def test_reruns(self, project):
        project.write(
            """
attempts = []

@pytest.mark.flaky(reruns=2)
@pytest.mark.flops_budget(flops=13_904)
def test_net(flops_budget):
    attempts.append(1)
    flops_budget(Net(kernel=3 if len(attempts) == 2 else 5), IMAGE)
"""
        )
        result = project.run("--flops-budget-update", *WITH["rerunfailures"])
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["1 measurement: 1 new; 13.9* kFLOPs counted *"])
        assert '"flops": 13904' in project.baseline.read_text()


def test_disable(project):
    """With --flops-budget-disable, the fixture still measures, but neither limits nor baselines apply."""
    project.write(
        measuring("@pytest.mark.flops_budget(flops=1)")
        .replace("flops_budget(Net", "assert flops_budget(Net")
        .replace("IMAGE)", "IMAGE).flops")
    )
    result = project.run("--flops-budget-disable")
    result.assert_outcomes(passed=1)
    assert "flops budgets" not in result.stdout.str()


def test_hook(project):
    project.pytester.makeconftest(
        "def pytest_flopsbudget_judged(item, verdict):\n"
        "    print('judged', item.name, verdict.name, verdict.outcome, verdict.complexity.flops)\n"
    )
    project.write(measuring())
    project.run("-s").stdout.fnmatch_lines([f"*judged test_net model new {NET_FLOPS}"])
