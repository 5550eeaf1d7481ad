"""The verdict on a measurement: whether it fails, and why."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import pytest
from budgets import budget
from hypothesis import given
from hypothesis import strategies as st
from timed import timed

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.quantities.bounds import Bounds
from pytest_flopsbudget.quantities.tolerance import Tolerance
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module, UnknownOperator
from pytest_flopsbudget.results.limits import Limit, Unmeasured, Violation
from pytest_flopsbudget.results.verdict import Measurement, Verdict, judge, to_accept

UNKNOWN = {"mine.twice": UnknownOperator(calls=1, modules=("",))}


def complexity(flops=100, params=10, unknown=None):
    metrics = {"flops": flops, "params": params}
    return Complexity(
        model="Net",
        inputs=("float32[1]",),
        execution="shapes",
        metrics=metrics,
        modules={"": Module(type="Net", metrics=metrics), "stem": Module(type="Linear", metrics=metrics)},
        unknown_operators=unknown or {},
    )


def judged(new=None, old=None, budgets=(), settings=None, *, accepts=False):
    measurement = Measurement(name="model", complexity=new or complexity())
    return judge(measurement, budgets, settings or Settings(), old, accepts=accepts)


class TestLimits:
    @pytest.mark.parametrize(("flops", "fails"), [(100, False), (101, True)])
    def test_the_limit_itself_passes(self, flops, fails):
        verdict = judged(complexity(flops), budgets=[budget("here", {"flops": 100})])
        assert verdict.fails == fails

    def test_what_is_broken(self):
        verdict = judged(complexity(150), budgets=[budget("here", {"flops": 100, "params": 10})])
        assert verdict.broken == (Violation(metric="flops", module=None, measured=150, limit=100, source="here"),)
        assert verdict.outcome == "over limit"

    @pytest.mark.parametrize(
        ("limits", "modules", "outcome"),
        [
            ({"flops": Bounds(minimum=200)}, {}, "under limit"),
            ({"flops": Bounds(minimum=200), "params": 9}, {}, "over limit"),
            ({"flops": Bounds(minimum=99, maximum=99)}, {}, "over limit"),
            ({"flops": Bounds(minimum=101, maximum=101)}, {}, "under limit"),
            ({}, {"stem": {"params": Bounds(minimum=11)}}, "under limit"),
            ({}, {"sten": {"params": 1}}, "unchecked limit"),
            ({"latency": 3}, {}, "unchecked limit"),
            ({"latency": 3, "flops": Bounds(minimum=200)}, {}, "under limit"),
        ],
    )
    def test_the_direction(self, limits, modules, outcome):
        """100 FLOPs and 10 parameters, in ``stem`` too."""
        assert judged(complexity(), budgets=[budget("here", limits, modules)]).outcome == outcome

    def test_they_hold_where_a_run_accepts(self):
        verdict = judged(complexity(150), complexity(), [budget("here", {"flops": 100})], accepts=True)
        assert (verdict.fails, verdict.outcome) == (True, "over limit")

    def test_the_share_that_is_used(self):
        """The verdict names the limit of which the largest share is used."""
        share = judged(budgets=[budget("here", {"flops": 400, "params": 20})]).share
        assert (share.metric, share.used) == ("params", 0.5)

    def test_a_pattern_that_matches_nothing_fails(self):
        verdict = judged(budgets=[budget("here", modules={"sten": {"flops": 1}})])
        assert verdict.fails
        assert verdict.unmatched[0].near == ("stem",)

    def test_a_pattern_for_every_model_may_match_nothing(self):
        everywhere = budget("pyproject.toml", modules={"layer4": {"flops": 1}})
        assert not judged(budgets=[everywhere], settings=Settings(limits=everywhere)).fails

    def test_a_latency_that_was_not_measured(self):
        """If no latency was measured, a test's own limit on latency is broken, but a limit for all tests is not."""
        limit = budget("pyproject.toml", {"latency": 1})
        assert judged(budgets=[limit]).broken == (Unmeasured(metric="latency", module=None, source="pyproject.toml"),)
        assert not judged(budgets=[limit], settings=Settings(limits=limit)).fails


class TestBaseline:
    @pytest.mark.parametrize(
        ("old", "new", "outcome", "fails"),
        [(100, 100, "ok", False), (100, 101, "regressed", True), (100, 99, "improved", False)],
    )
    def test_growth_fails(self, old, new, outcome, fails):
        verdict = judged(complexity(new), complexity(old))
        assert (verdict.outcome, verdict.fails) == (outcome, fails)

    def test_a_run_that_accepts(self):
        verdict = judged(complexity(101), complexity(100), accepts=True)
        assert (verdict.outcome, verdict.fails) == ("accepted", False)

    def test_tolerance(self):
        """With a tolerance of 1%, 100 FLOPs may grow to 101, but not to 102."""
        closer = budget("here", tolerance={"flops": Tolerance(relative=Fraction(1, 100))})
        assert not judged(complexity(101), complexity(100), [closer]).fails
        assert judged(complexity(102), complexity(100), [closer]).fails
        assert judged(complexity(101), complexity(100), [closer]).outcome == "ok"


class TestReactions:
    @pytest.mark.parametrize(("reaction", "fails"), [("fail", True), ("warn", False), ("ignore", False)])
    def test_no_baseline(self, reaction, fails):
        verdict = judged(settings=Settings(missing_baseline=reaction))
        assert (verdict.outcome, verdict.fails) == ("new", fails)

    @pytest.mark.parametrize(("reaction", "fails"), [("fail", True), ("pass", False)])
    def test_improvement(self, reaction, fails):
        verdict = judged(complexity(99), complexity(100), settings=Settings(improved_baseline=reaction))
        assert (verdict.outcome, verdict.fails) == ("improved", fails)

    @pytest.mark.parametrize(("reaction", "outcome"), [("fail", "unknown operators"), ("warn", "ok"), ("ignore", "ok")])
    def test_unknown_operators(self, reaction, outcome):
        known = complexity()
        verdict = judged(complexity(unknown=UNKNOWN), known, settings=Settings(unknown_operators=reaction))
        assert (verdict.outcome, verdict.fails) == (outcome, reaction == "fail")

    def test_a_run_that_accepts_passes_but_for_unknown_operators(self):
        strict = Settings(missing_baseline="fail", improved_baseline="fail", unknown_operators="fail")
        assert not judged(settings=strict, accepts=True).fails
        assert not judged(complexity(99), complexity(100), settings=strict, accepts=True).fails
        assert judged(complexity(unknown=UNKNOWN), settings=strict, accepts=True).fails


class TestAccepts:
    """Which outcomes an update accepts."""

    @pytest.mark.parametrize(
        ("new", "old", "by"),
        [
            (complexity(), None, {"new"}),
            (complexity(), complexity(), set()),
            (complexity(101), complexity(100), set()),
            (complexity(99, params=10), complexity(100, params=11), {"improved"}),
            (complexity(99, params=11), complexity(100, params=10), set()),
            (complexity(99), msgspec.structs.replace(complexity(100), inputs=("float32[2]",)), set()),
            (complexity(99), msgspec.structs.replace(complexity(100), backward=True), set()),
            (complexity(99), msgspec.structs.replace(complexity(100), execution="real"), set()),
            (complexity(99), msgspec.structs.replace(complexity(100), metrics={"flops": 100, "macs": 50}), set()),
        ],
        ids=["new", "same", "regressed", "improved", "mixed", "input", "backward", "execution", "vanished metric"],
    )
    def test_only(self, new, old, by):
        assert {only for only in ("new", "improved") if judged(new, old, accepts=only).accepted} == by
        assert judged(new, old, accepts=True).accepted
        assert not judged(new, old).accepted

    def test_within_tolerance_is_no_improvement(self):
        settings = Settings(tolerance={"flops": Tolerance(relative=Fraction(1, 10))})
        assert not judged(complexity(101), complexity(100), settings=settings, accepts="improved").accepted


@given(
    measured=st.integers(0, 2**70),
    limit=st.integers(0, 2**70),
    old=st.none() | st.integers(0, 2**70),
    unknown=st.booleans(),
)
def test_travels_between_processes(measured, limit, old, unknown):
    verdict = judged(
        complexity(measured, unknown=UNKNOWN if unknown else None),
        None if old is None else complexity(old),
        [budget("here", {"flops": limit}, {"stem": {"params": 3}, "nowhere": {"flops": 1}})],
    )
    assert msgspec.convert(msgspec.to_builtins(verdict), Verdict) == verdict


class TestUnevenLatency:
    def judged(self, new, old=None, **limits):
        budgets = [budget("here", limits)]
        return judge(Measurement(name="model", complexity=new), budgets, Settings(), old, accepts=True)

    def test_neither_to_limits_nor_to_baselines(self):
        found = self.judged(timed(10**6, 10**6), timed(1000), latency=1000, flops=2499)
        assert [item.metric for item in found.broken] == ["flops"]
        assert found.comparison.changes == ()
        assert found.comparison.status == "unchanged"
        assert [one.metric for one in found.unjudged] == ["latency[box]"]
        assert found.share.metric == "flops"

    def test_an_even_one_is(self):
        found = self.judged(timed(10**6, 10**5), timed(1000), latency=1000)
        assert [(item.metric, item.measured) for item in found.broken] == [("latency[box]", 10**6)]
        assert [change.metric for change in found.comparison.changes] == ["latency[box]"]
        assert found.limits == {"latency[box]": Limit(1000, "here")}
        assert found.unjudged == ()

    @pytest.mark.parametrize(
        ("new", "expected"),
        [
            # Noisy; within the tolerance; twice as long.
            (timed(1000, 101), None),
            (timed(1001), None),
            (timed(2000), 2000),
        ],
    )
    def test_what_is_accepted(self, new, expected):
        assert to_accept(self.judged(new, timed(1000))).metrics.get("latency[box]") == expected

    def test_the_first_one_is_accepted(self):
        assert to_accept(self.judged(timed(1000))).metrics["latency[box]"] == 1000
