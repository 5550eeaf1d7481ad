"""Compare measurements with limits."""

from __future__ import annotations

import math
from fractions import Fraction

import msgspec
import pytest
from budgets import budget
from timed import estimated, net, timed

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.quantities.tolerance import Tolerance
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.limit_checks import check_limits, find_unmatched
from pytest_flopsbudget.results.limits import (
    EffectiveLimits,
    Limit,
    Ratio,
    Share,
    UnmatchedPattern,
    Unmeasured,
    Violation,
    asks_for_latency,
    drop_metrics,
    largest_share,
    limited_devices,
    limits_latency,
    merge_budgets,
    name_machine,
    tolerance_for,
)


def complexity(flops=1_000, params=100, modules=None):
    """Build a model from its totals and from the FLOPs of its modules."""
    paths = {"": flops} | (modules or {})
    return Complexity(
        model="Net",
        inputs=("float32[1]",),
        execution="shapes",
        metrics={"flops": flops, "params": params},
        modules={path: Module(type="M", calls=1, metrics={"flops": own}) for path, own in paths.items()},
    )


def limited(**limits):
    return EffectiveLimits({metric: Limit(maximum, "here") for metric, maximum in limits.items()})


def limited_modules(**patterns):
    return EffectiveLimits({}, {pattern: {"flops": Limit(maximum, "here")} for pattern, maximum in patterns.items()})


class TestMerge:
    def test_the_closest_wins_metric_by_metric(self):
        far = budget("far", limits={"flops": 1, "params": 2})
        near = budget("near", limits={"flops": 3})
        assert merge_budgets([far, near]) == EffectiveLimits({"params": Limit(2, "far"), "flops": Limit(3, "near")})

    @pytest.mark.parametrize(("farther", "closer"), [("flops", "macs"), ("macs", "flops")])
    def test_flops_and_macs_are_one_quantity(self, farther, closer):
        """If one budget limits FLOPs and another one limits MACs, the closer limit applies, even if it allows more."""
        budgets = [budget("far", limits={farther: 1}), budget("near", limits={closer: 100})]
        assert merge_budgets(budgets) == EffectiveLimits({closer: Limit(100, "near")})

    def test_other_work_and_the_total_are_quantities_of_their_own(self):
        """A closer limit on `total_flops` does not replace farther limits on `flops` or `other_flops`."""
        far = budget("far", limits={"flops": 1, "other_flops": 2, "total_flops": 3})
        near = budget("near", limits={"total_flops": 4})
        assert merge_budgets([far, near]) == EffectiveLimits(
            {"flops": Limit(1, "far"), "other_flops": Limit(2, "far"), "total_flops": Limit(4, "near")}
        )

    def test_both_units_of_one_budget_hold(self):
        budgets = [budget("far", limits={"flops": 9}), budget("near", limits={"flops": 1, "macs": 2})]
        assert merge_budgets(budgets) == EffectiveLimits({"flops": Limit(1, "near"), "macs": Limit(2, "near")})

    def test_modules_are_merged_by_pattern(self):
        """A closer limit for modules replaces a farther limit only if both have the same pattern and metric."""
        far = budget("far", modules={"a": {"flops": 1, "params": 2}, "b": {"flops": 3}})
        near = budget("near", modules={"a": {"macs": 4}, "b*": {"flops": 5}})
        assert merge_budgets([far, near]).modules == {
            "a": {"params": Limit(2, "far"), "macs": Limit(4, "near")},
            "b": {"flops": Limit(3, "far")},
            "b*": {"flops": Limit(5, "near")},
        }

    def test_nothing_holds_without_budgets(self):
        assert merge_budgets([]) == EffectiveLimits()


class TestToleranceFor:
    def test_the_closest_wins_metric_by_metric(self):
        settings = Settings()
        far = budget("far", tolerance={"flops": Tolerance(absolute=1), "params": Tolerance(absolute=2)})
        near = budget("near", tolerance={"flops": Tolerance(absolute=3)})
        assert tolerance_for([far, near], settings) == settings.tolerance | {
            "flops": Tolerance(absolute=3),
            "params": Tolerance(absolute=2),
        }


class TestCheck:
    def test_a_limit_may_be_reached(self):
        assert check_limits(complexity(flops=1_000), limited(flops=1_000, macs=500)) == []

    def test_one_more_is_a_violation(self):
        (violation,) = check_limits(complexity(flops=10**20 + 1), limited(flops=10**20))
        assert violation == Violation(metric="flops", module=None, measured=10**20 + 1, limit=10**20, source="here")
        assert violation.excess == 1

    def test_macs_are_half_the_flops(self):
        (violation,) = check_limits(complexity(flops=1_000), limited(macs=499))
        assert (violation.metric, violation.measured, violation.limit) == ("macs", 500, 499)

    def test_the_total_is_flops_and_other_flops(self):
        measured = msgspec.structs.replace(complexity(), metrics={"flops": 1_000, "other_flops": 300})
        assert check_limits(measured, limited(total_flops=1_300, other_flops=300)) == []
        (violation,) = check_limits(measured, limited(total_flops=1_299))
        assert (violation.metric, violation.measured, violation.excess) == ("total_flops", 1_300, 1)
        assert largest_share(measured, limited(total_flops=2_600)).used == 0.5

    def test_the_total_of_a_module(self):
        modules = {
            path: Module(type="M", calls=1, metrics={"flops": flops, "other_flops": other})
            for path, flops, other in (("", 5, 3), ("a", 2, 2), ("b", 3, 1))
        }
        measured = msgspec.structs.replace(complexity(), modules=modules)
        found = check_limits(measured, EffectiveLimits({}, {"?": {"total_flops": Limit(3, "here")}}))
        assert [(one.module, one.measured) for one in found] == [("a", 4), ("b", 4)]

    def test_the_total_of_what_was_measured_in_part(self):
        """If `other_flops` was not measured, a limit on `total_flops` is reported as unmeasured."""
        found = check_limits(complexity(), limited(total_flops=10_000))
        assert found == [Unmeasured(metric="total_flops", module=None, source="here")]

    def test_violations_are_in_the_order_of_the_metrics(self):
        assert [one.metric for one in check_limits(complexity(), limited(params=1, macs=1, flops=1))] == [
            "flops",
            "macs",
            "params",
        ]

    def test_a_pattern_limits_every_module_that_matches(self):
        measured = complexity(modules={"layer4": 30, "layer4.0": 20, "layer4.1": 10, "head": 40})
        found = check_limits(measured, limited_modules(**{"layer4*": 15}))
        assert [(one.module, one.measured, one.excess) for one in found] == [("layer4", 30, 15), ("layer4.0", 20, 5)]

    def test_wildcards_are_about_what_is_inside_the_model(self):
        measured = complexity(flops=50, modules={"a": 10})
        assert check_limits(measured, limited_modules(**{"*": 20})) == []
        assert [one.module for one in check_limits(measured, limited_modules(**{"": 20}))] == [""]

    def test_what_was_not_measured_is_told(self):
        found = check_limits(complexity(), limited(buffer_bytes=1))
        assert found == [Unmeasured(metric="buffer_bytes", module=None, source="here")]

    def test_what_was_not_measured_of_modules_is_told_once(self):
        measured = complexity(modules={"a.0": 1, "a.1": 1})
        found = check_limits(measured, EffectiveLimits({}, {"a.*": {"params": Limit(1, "here")}}))
        assert found == [Unmeasured(metric="params", module="a.*", source="here")]

    def test_findings_travel_as_plain_data(self):
        found = check_limits(complexity(flops=2**70), limited(flops=2**65, param_bytes=1))
        assert msgspec.convert(msgspec.to_builtins(found), list[Violation | Unmeasured]) == found


class TestUnmatched:
    def test_names_near_modules(self):
        (found,) = find_unmatched(complexity(modules={"layer4": 1, "head": 1}), limited_modules(layr4=1))
        assert found == UnmatchedPattern(pattern="layr4", source="here", near=("layer4",))

    def test_finds_a_module_by_its_own_name(self):
        modules = {f"model.layers.{n}.self_attn.q_proj": 1 for n in range(5)}
        (found,) = find_unmatched(complexity(modules=modules), limited_modules(q_proj=1))
        assert found.near == tuple(f"model.layers.{n}.self_attn.q_proj" for n in range(3))

    def test_is_told_for_each_place(self):
        """If two budgets have the same pattern and no module matches it, both budgets are reported."""
        effective = merge_budgets(
            [budget("far", modules={"x": {"params": 1}}), budget("near", modules={"x": {"flops": 1}})]
        )
        assert [one.source for one in find_unmatched(complexity(), effective)] == ["far", "near"]

    def test_is_empty_where_every_pattern_matches(self):
        assert find_unmatched(complexity(modules={"a.b": 1}), limited_modules(**{"a*": 1, "": 1, "?.b": 1})) == []


class TestShare:
    def test_is_the_tightest(self):
        """`largest_share` returns the limit of which the largest share is used."""
        found = largest_share(complexity(flops=1_000, params=100), limited(flops=4_000, params=200))
        assert found == Share(metric="params", measured=100, limit=200, source="here")
        assert found.used == 0.5

    def test_is_none_without_limits_on_what_was_measured(self):
        assert largest_share(complexity(), limited()) is None
        assert largest_share(complexity(), limited(buffer_bytes=1)) is None

    @pytest.mark.parametrize(("params", "expected"), [(0, 1.0), (1, math.inf)])
    def test_of_a_limit_of_zero(self, params, expected):
        """If the limit is 0, the value 0 has the share 1. Any other value has an infinite share."""
        assert largest_share(complexity(params=params), limited(params=0)).used == expected

    def test_the_first_metric_wins_a_tie(self):
        assert largest_share(complexity(flops=1_000), limited(macs=1_000, flops=2_000)).metric == "flops"


class TestDevices:
    def test_closest_wins_device_by_device(self):
        """A closer limit on the time of one device does not replace a farther limit for another device."""
        far = budget("far", limits={"time[A100]": 1, "time[T4]": 2})
        near = budget("near", limits={"time[T4]": 3})
        assert merge_budgets([far, near]).limits == {"time[A100]": Limit(1, "far"), "time[T4]": Limit(3, "near")}

    def test_a_time_is_held_as_a_whole(self):
        """A limit on a time is compared with the sum of its parts."""
        # ns: 900 + 300 + 200.
        assert check_limits(estimated(), EffectiveLimits({"time[A100]": Limit(1400, "here")})) == []
        (found,) = check_limits(estimated(), EffectiveLimits({"time[A100]": Limit(1399, "here")}))
        assert (found.metric, found.measured, found.excess) == ("time[A100]", 1400, 1)

    def test_of_modules(self):
        # The stem takes 1,000 ns, the head 400 ns.
        found = check_limits(estimated(), EffectiveLimits({}, {"*": {"time[A100]": Limit(400, "here")}}))
        assert [(one.module, one.measured) for one in found] == [("stem", 1000)]

    def test_a_device_without_an_estimate(self):
        found = check_limits(estimated(), EffectiveLimits({"time[T4]": Limit(1, "here")}))
        assert found == [Unmeasured(metric="time[T4]", module=None, source="here")]

    def test_what_has_to_be_estimated(self):
        budgets = [
            budget("a", limits={"time[T4]": 1, "flops": 1}),
            budget("b", modules={"x": {"memory_time[A100]": 1}}, phases={"backward": {"time[L4]": 1}}),
        ]
        assert limited_devices(budgets) == ("A100", "L4", "T4")
        assert limited_devices([]) == ()


class TestLatency:
    LIMITS = EffectiveLimits({"latency": Limit(1000, "here"), "flops": Limit(9999, "here")})

    def test_holds_on_whichever_machine_measures(self):
        held = name_machine(self.LIMITS, timed(1001))
        assert list(held.limits) == ["latency[box]", "flops"]
        (found,) = check_limits(timed(1001), held)
        assert (found.metric, found.measured, found.limit) == ("latency[box]", 1001, 1000)
        assert check_limits(timed(1000), held) == []

    def test_where_none_was_measured(self):
        assert check_limits(complexity(), name_machine(self.LIMITS, complexity())) == [
            Unmeasured(metric="latency", module=None, source="here")
        ]

    def test_what_has_to_be_measured(self):
        assert limits_latency([budget("a"), budget("b", limits={"latency": 1})])
        assert not limits_latency([budget("a", limits={"time[A100]": 1})])

    @pytest.mark.parametrize(
        ("budgets", "expected"),
        [
            ([], False),
            ([budget("a", limits={"flops": 1}, tolerance={"flops": Tolerance()})], False),
            ([budget("a", limits={"latency": 1})], True),
            ([budget("a", tolerance={"latency": Tolerance()}), budget("b")], True),
        ],
    )
    def test_who_asks_for_it(self, budgets, expected):
        """If a budget has a limit on latency or a tolerance for latency, latency is measured."""
        assert expected == asks_for_latency(budgets)

    def test_left_out(self):
        assert drop_metrics(name_machine(self.LIMITS, timed(9999)), {"latency[box]"}).limits == {
            "flops": Limit(9999, "here")
        }


class TestRatios:
    #: 36 FLOPs divided by 8 bytes: 4.5 FLOPs per byte.
    NET = net({"flops": 30, "other_flops": 6, "memory_traffic": 8}, {"flops": 0, "other_flops": 0, "memory_traffic": 0})

    def limited(self, bound):
        return merge_budgets([budget("here", limits={"arithmetic_intensity": bound})])

    def test_a_limit_is_the_least(self):
        assert check_limits(self.NET, self.limited(Fraction(9, 2))) == []
        assert check_limits(self.NET, self.limited(0)) == []
        (found,) = check_limits(self.NET, self.limited(Fraction(45001, 10000)))
        assert found.measured == Ratio(9, 2)
        assert found.limit == Ratio(45001, 10000)
        assert found.excess == Fraction(1, 10000)

    def test_share(self):
        """The share of a minimum is the minimum divided by the value."""
        # 9 / 4.5 and 3 / 4.5
        assert largest_share(self.NET, self.limited(9)).used == 2
        assert largest_share(self.NET, self.limited(3)).used == Fraction(2, 3)
        assert largest_share(self.NET, self.limited(0)).used == 0

    def test_modules_that_move_nothing(self):
        """If a module moves no bytes, it breaks no limit on the intensity."""
        effective = merge_budgets([budget("here", modules={"*": {"arithmetic_intensity": 5}})])
        assert [(one.module, one.measured) for one in check_limits(self.NET, effective)] == [("stem", Ratio(9, 2))]

    def test_travels(self):
        effective = self.limited(Fraction(1, 3))
        assert msgspec.json.decode(msgspec.json.encode(effective), type=EffectiveLimits) == effective
        assert effective.limits["arithmetic_intensity"].bound("arithmetic_intensity") == Fraction(1, 3)

    def test_other_limits_are_written_as_ever(self):
        assert msgspec.to_builtins(Limit(5, "here")) == {"maximum": 5, "source": "here"}


def test_imports_neither_torch_nor_pytest():
    import subprocess
    import sys

    code = "import sys, pytest_flopsbudget.results.limits; print({'torch', 'pytest', '_pytest'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
