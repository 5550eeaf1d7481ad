from fractions import Fraction

import msgspec
import pytest

from pytest_flopsbudget.results.complexity import Complexity, Module, UnknownOperator
from pytest_flopsbudget.results.verdict import Measurement, Verdict, judge
from pytest_flopsbudget.settings import Budget, Settings
from pytest_flopsbudget.units import Tolerance


def complexity(flops=100, **more):
    metrics = {"flops": flops, "params": 10}
    return Complexity(
        model="Net",
        inputs=("float32[1]",),
        execution="shapes",
        metrics=metrics,
        modules={"": Module(type="Net", calls=1, metrics=metrics), "stem": Module(type="Conv2d", metrics=metrics)},
        **more,
    )


def verdict(flops=100, budgets=(), settings=Settings(), baseline=None, accepts=False, **more):  # noqa: B008 -- frozen
    measurement = Measurement(name="model", complexity=complexity(flops, **more), times=2, seconds=0.5)
    return judge(measurement, budgets, settings, baseline, accepts=accepts)


class TestOutcome:
    @pytest.mark.parametrize(
        ("old", "outcome", "fails"),
        [(None, "new", False), (100, "ok", False), (99, "regressed", True), (101, "improved", False)],
    )
    def test_against_a_baseline(self, old, outcome, fails):
        judged = verdict(baseline=None if old is None else complexity(old))
        assert (judged.outcome, judged.fails) == (outcome, fails)

    def test_accepted(self):
        """An update lets growth pass, and says so."""
        judged = verdict(baseline=complexity(1), accepts=True)
        assert (judged.outcome, judged.fails) == ("accepted", False)

    @pytest.mark.parametrize("accepts", [False, True])
    def test_over_its_limit(self, accepts):
        """A limit holds whether the run accepts what it measures or not."""
        judged = verdict(budgets=(Budget("here", {"flops": 99}),), accepts=accepts)
        assert (judged.outcome, judged.fails) == ("over limit", True)
        (broken,) = judged.broken
        assert (broken.measured, broken.limit, broken.excess, broken.source) == (100, 99, 1, "here")

    def test_tolerance(self):
        settings = Settings(tolerance={"flops": Tolerance(relative=Fraction(1, 100))})
        assert verdict(101, settings=settings, baseline=complexity(100)).outcome == "ok"
        assert verdict(102, settings=settings, baseline=complexity(100)).outcome == "regressed"

    @pytest.mark.parametrize(
        ("settings", "arguments", "failing"),
        [
            (Settings(missing_baseline="fail"), {}, "new"),
            (Settings(improved_baseline="fail"), {"baseline": complexity(101)}, "improved"),
            (
                Settings(unknown_operators="fail"),
                {"unknown_operators": {"mine.op": UnknownOperator(calls=1)}},
                "unknown operators",
            ),
        ],
    )
    def test_reactions(self, settings, arguments, failing):
        assert verdict(**arguments).failing == ()
        judged = verdict(settings=settings, **arguments)
        assert (judged.failing, judged.fails, judged.outcome) == ((failing,), True, failing)


class TestPatterns:
    def test_unmatched(self):
        judged = verdict(budgets=(Budget("here", modules={"sten": {"flops": 1}}),))
        assert judged.fails
        assert [(item.pattern, item.near) for item in judged.unmatched] == [("sten", ("stem",))]

    def test_for_every_model(self):
        """What holds for all models need not name a module of each of them."""
        everywhere = Budget("everywhere", modules={"layer4": {"flops": 1}})
        assert not verdict(budgets=(everywhere,), settings=Settings(limits=everywhere)).fails


def test_travels_between_processes():
    """A verdict survives being made plain."""
    judged = verdict(2**70, budgets=(Budget("here", {"flops": 9, "buffer_bytes": 1}),), baseline=complexity(1))
    assert msgspec.convert(msgspec.to_builtins(judged), Verdict) == judged
