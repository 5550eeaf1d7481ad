"""Ranges, exact values, shares, warnings, and limits on operators and on named measurements."""

from __future__ import annotations

from fractions import Fraction

import pytest
from budgets import budget
from build import small
from msgspec.structs import replace

from pytest_flopsbudget.config.settings import Budget, Settings
from pytest_flopsbudget.quantities.bounds import Bounds
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module, Operator
from pytest_flopsbudget.results.limit_checks import check_limits, find_unmatched, find_warnings
from pytest_flopsbudget.results.limits import Ratio, UnmatchedPattern, Unmeasured, Violation, merge_budgets
from pytest_flopsbudget.results.mean import mean
from pytest_flopsbudget.results.total import check_total, total_limits
from pytest_flopsbudget.results.verdict import Measurement, judge


def metrics(flops, params=0):
    return {"flops": flops, "other_flops": 0, "params": params}


def model(flops=100, **changes):
    """Return a model with a product of ``flops`` FLOPs in its module `head`."""
    whole = Complexity(
        model="Net",
        inputs=("float32[1]",),
        execution="shapes",
        metrics=metrics(flops, 10),
        modules={
            "": Module(type="Net", metrics=metrics(flops, 10), calls=1),
            "head": Module(type="Linear", metrics=metrics(flops, 6), calls=1),
        },
        operators={"aten.mm": Operator(calls=2, metrics={"flops": flops, "other_flops": 0})},
    )
    return replace(whole, **changes)


def checked(measured, others=None, **limits):
    return check_limits(measured, merge_budgets([budget("here", **limits)]), others)


def violation(measured, limit, **fields):
    return Violation(
        **{"metric": "flops", "module": None, "measured": measured, "limit": limit, "source": "here"} | fields
    )


class TestBounds:
    @pytest.mark.parametrize(("flops", "broken"), [(79, 80), (80, None), (120, None), (121, 120)])
    def test_range(self, flops, broken):
        found = checked(model(flops), limits={"flops": Bounds(minimum=80, maximum=120)})
        bound = "minimum" if broken == 80 else "maximum"
        assert found == ([] if broken is None else [violation(flops, broken, bound=bound)])

    @pytest.mark.parametrize(("flops", "fails"), [(99, True), (100, False), (101, True)])
    def test_exactly(self, flops, fails):
        found = checked(model(flops), limits={"flops": Bounds(minimum=100, maximum=100)})
        assert found == ([violation(flops, 100, bound="exact value")] if fails else [])

    def test_of_an_operator(self):
        found = checked(model(), operators={"aten.mm": {"flops": 99}})
        assert found == [violation(100, 99, operator="aten.mm")]
        assert checked(model(), operators={"aten::m*": {"flops": 99}}) == found

    def test_not_measured(self):
        found = checked(model(), operators={"aten.mm": {"memory_traffic": 99}})
        assert found == [Unmeasured(metric="memory_traffic", module=None, source="here", operator="aten.mm")]


HALF_OF_TEACHER = {"flops": Bounds(maximum=Fraction(1, 2), share_of="teacher")}


class TestShares:
    @pytest.mark.parametrize(("teacher", "fails"), [(200, False), (199, True)])
    def test_of_a_measurement(self, teacher, fails):
        # Half of 199 FLOPs is 99.5, so at most 99 whole FLOPs.
        found = checked(model(), {"student": model(), "teacher": model(teacher)}, limits=HALF_OF_TEACHER)
        expected = [violation(100, 99, share_of="teacher", share=Ratio(1, 2))] if fails else []
        assert found == expected

    def test_of_a_module(self):
        """A limit may be a share of the model's total, for example half of its parameters."""
        limit = {"head": {"params": Bounds(maximum=Fraction(1, 2), share_of="")}}
        (found,) = checked(model(), modules=limit)
        assert (found.module, found.measured, found.limit, found.share_of) == ("head", 6, 5, "")

    def test_at_least(self):
        (found,) = checked(model(), limits={"flops": Bounds(minimum=Fraction(3, 2), share_of="head")})
        assert (found.bound, found.limit) == ("minimum", 150)

    def test_of_nothing(self):
        effective = merge_budgets([budget("here", limits=HALF_OF_TEACHER)])
        others = {"student": model(), "teachers": model()}
        assert check_limits(model(), effective, others) == []
        assert find_unmatched(model(), effective, others) == [
            UnmatchedPattern(
                pattern="teacher",
                source="here",
                near=("teachers",),
                measurements=("student", "teachers"),
                kind="share of",
            )
        ]


class TestWarnings:
    @pytest.mark.parametrize(("flops", "warns"), [(80, False), (81, True), (120, True), (121, False)])
    def test_below_the_limit(self, flops, warns):
        effective = merge_budgets([budget("here", limits={"flops": Bounds(maximum=120, warning=80)})])
        assert find_warnings(model(flops), effective) == ([violation(flops, 80)] if warns else [])

    def test_passes(self):
        one = Measurement(name="model", complexity=model())
        budgets = [budget("here", limits={"flops": Bounds(warning=80)})]
        verdict = judge(one, budgets, Settings(), None, accepts=False)
        assert not verdict.fails
        assert verdict.warned == (violation(100, 80),)


class TestNames:
    BUDGETS = (
        Budget(
            "here",
            limits={"flops": Bounds(maximum=500)},
            measurements={"student*": budget("here", {"flops": 50}), "coach": budget("here", {"flops": 1})},
        ),
    )

    def test_limit_of_one_measurement(self):
        assert merge_budgets(self.BUDGETS, "student").limits["flops"].maximum == 50
        assert merge_budgets(self.BUDGETS, "teacher").limits["flops"].maximum == 500

    def test_no_such_measurement(self):
        """If a name matches no measurement of a test, only the first measurement says so."""
        others = {"student": model(), "teacher": model()}
        found = [
            judge(Measurement(name=name, complexity=one), self.BUDGETS, Settings(), None, accepts=False, others=others)
            for name, one in others.items()
        ]
        assert found[0].unmatched == (
            UnmatchedPattern(pattern="coach", source="here", near=("student", "teacher"), kind="measurement"),
        )
        assert found[1].unmatched == ()


class TestTotal:
    @pytest.mark.parametrize(("limit", "broken"), [(300, False), (299, True)])
    def test_sum(self, limit, broken):
        limits = total_limits({"flops": Bounds(maximum=limit), "params": Bounds(maximum=20)}, "here")
        found = check_total(limits, [model(100), model(200)])
        assert found.broken == ((violation(300, limit),) if broken else ())

    def test_warning(self):
        limits = total_limits({"flops": Bounds(maximum=300, warning=250)}, "here")
        assert check_total(limits, [model(300)]) == ((), (violation(300, 250),))
        assert check_total(limits, [model(301)]) == ((violation(301, 300),), ())

    def test_nothing_measured(self):
        assert check_total(total_limits({"latency": Bounds(maximum=1)}, "here"), [model()]) == ((), ())


class TestMean:
    def test_rounded_up(self):
        """A mean that is not a whole number is rounded up."""
        found = mean([model(100), model(101), model(101)])
        assert (found.flops, found["head"].flops, found.operators["aten.mm"].flops) == (101, 101, 101)
        assert (found.params, found.operators["aten.mm"].calls) == (10, 2)
        assert found.notes == ("the mean of 3 measurements, rounded up",)

    def test_a_part_that_some_lack(self):
        other = model(100, operators={}, inputs=("float32[2]",), execution="real")
        found = mean([model(100), other])
        assert (found.operators["aten.mm"].flops, found.operators["aten.mm"].calls) == (50, 1)
        assert (found.inputs, found.execution) == (("float32[1]", "float32[2]"), "real")

    def test_a_metric_that_some_lack(self):
        """Where nothing is routed, all parameters are active."""
        routed = small(metrics={"flops": 1, "params": 10, "active_params": 4})
        assert mean([routed, small(metrics={"flops": 1, "params": 10})]).active_params == 7

    def test_one(self):
        assert mean([model()]) == model()


class TestSharesOfItself:
    """A measurement or a module is no share of itself, so the limit is for the others."""

    def test_measurement(self):
        teacher = model(200)
        others = {"student": model(150), "teacher": teacher}
        assert checked(teacher, others, limits=HALF_OF_TEACHER) == []
        assert len(checked(others["student"], others, limits=HALF_OF_TEACHER)) == 1

    def test_module(self):
        limit = {"*": {"params": Bounds(maximum=Fraction(1, 2), share_of="head")}}
        assert checked(model(), modules=limit) == []
