from fractions import Fraction

import msgspec
import pytest
from build import small
from timed import estimated, net, timed, times

from pytest_flopsbudget.quantities.tolerance import Tolerance
from pytest_flopsbudget.results.comparison import Comparison, MetricChange, before, compare, tightens


class TestCompare:
    def test_new(self):
        assert compare(None, small(), {}) == Comparison(status="new")

    def test_unchanged(self):
        assert compare(small(5), small(5), {}) == Comparison(status="unchanged")

    @pytest.mark.parametrize(
        ("new", "status", "allowed"), [(101, "within", True), (102, "regressed", False), (99, "improved", True)]
    )
    def test_tolerance(self, new, status, allowed):
        """With a tolerance of one percent, a value of 100 may grow to 101, but not to 102."""
        tolerance = {"flops": Tolerance(relative=Fraction(1, 100), absolute=0)}
        comparison = compare(small(100), small(new), tolerance)
        assert comparison == Comparison(status=status, changes=(MetricChange("flops", 100, new, allowed, tolerated=1),))

    def test_no_tolerance_is_none(self):
        assert compare(small(100), small(101), {"params": Tolerance(Fraction(1), 0)}).status == "regressed"

    @pytest.mark.parametrize(
        ("flops", "params", "status"),
        [(101, 1, "regressed"), (101, 10, "regressed"), (1, 11, "within"), (1, 10, "improved"), (100, 11, "within")],
    )
    def test_several_metrics(self, flops, params, status):
        old = small(metrics={"flops": 100, "params": 10})
        new = small(metrics={"flops": flops, "params": params})
        tolerance = {"params": Tolerance(Fraction(0), 1)}
        assert compare(old, new, tolerance).status == status

    def test_changes_are_in_table_order(self):
        old = small(metrics={"buffer_bytes": 1, "params": 1, "flops": 1})
        new = small(metrics={"params": 2, "buffer_bytes": 2, "flops": 2})
        assert [change.metric for change in compare(old, new, {}).changes] == ["flops", "params", "buffer_bytes"]

    def test_circumstances(self):
        """A comparison lists the inputs that changed and the metrics that the new measurement lacks."""
        old = small(metrics={"flops": 1, "params": 7})
        new = small(inputs=("float32[2]",), execution="real", backward=True)
        assert compare(old, new, {}) == Comparison(
            status="unchanged",
            inputs_changed=(("float32[1]",), ("float32[2]",)),
            execution_changed=("shapes", "real"),
            backward_changed=(False, True),
            vanished=("params",),
        )

    def test_metrics_that_no_baseline_has(self):
        old = small(metrics={"flops": 1, "params": 9})
        new = small(metrics={"flops": 1, "params": 9, "active_params": 5})
        assert compare(old, new, {}).status == "unchanged"

    def test_a_mask_that_is_gone(self):
        """A measurement without masked_flops has masked_flops equal to flops; so has no baseline that lacks it."""
        masked, full = small(metrics={"flops": 9, "masked_flops": 5}), small(metrics={"flops": 9})
        gone = compare(masked, full, {})
        assert (gone.status, gone.vanished) == ("regressed", ())
        assert gone.changes == (MetricChange("masked_flops", 5, 9, allowed=False),)
        older = compare(full, masked, {})
        assert (older.status, older.added) == ("unchanged", ("masked_flops",))

    def test_new_metric(self):
        assert compare(small(1), small(metrics={"flops": 1, "params": 9}), {}).status == "unchanged"

    def test_travels(self):
        comparison = compare(small(1), small(2**70, inputs=("int64[1]",), execution="real"), {})
        assert msgspec.convert(msgspec.to_builtins(comparison), Comparison) == comparison


class TestTimes:
    def test_is_told_once(self):
        """If one part of a time grew, the only change is that of the whole time."""
        comparison = compare(estimated(), estimated(memory=500), {})
        assert comparison == Comparison(
            status="regressed",
            changes=(MetricChange("time[A100]", 1400, 1600, allowed=False),),
            parts=(MetricChange("memory_time[A100]", 300, 500, allowed=True),),
        )

    @pytest.mark.parametrize(("memory", "status"), [(440, "within"), (441, "regressed"), (299, "improved")])
    def test_tolerance(self, memory, status):
        """With a tolerance of a tenth, a time of 1,400 ns may grow by 140 ns, but not by 141 ns."""
        tolerance = {"time": Tolerance(relative=Fraction(1, 10))}
        assert compare(estimated(), estimated(memory=memory), tolerance).status == status

    def test_parts_that_make_up_for_each_other(self):
        """If parts of a time changed and their sum did not, the status is "unchanged"."""
        comparison = compare(estimated(), estimated(compute=800, memory=400), {})
        assert (comparison.status, comparison.changes) == ("unchanged", ())
        assert [(part.metric, part.old, part.new) for part in comparison.parts] == [
            ("compute_time[A100]", 900, 800),
            ("memory_time[A100]", 300, 400),
        ]

    def test_devices_are_compared_one_by_one(self):
        old = net({"flops": 1} | times(1, 2, 3, "A100") | times(10, 20, 30, "T4"))
        new = net({"flops": 1} | times(1, 2, 4, "A100") | times(10, 20, 20, "T4"))
        assert [(one.metric, one.old, one.new, one.allowed) for one in compare(old, new, {}).changes] == [
            ("time[A100]", 6, 7, False),
            ("time[T4]", 60, 50, True),
        ]

    @pytest.mark.parametrize("asked", [estimated(), timed(5), estimated("T4")])
    def test_what_is_no_longer_asked_for_is_not_missed(self, asked):
        """If only one side has a time or latency, the metric is neither changed nor reported as missing."""
        plain = net({"flops": 2000, "params": 10}, {"flops": 500, "params": 5})
        added = tuple(key for key in asked.metrics if key not in plain.metrics)
        assert compare(asked, plain, {}) == Comparison(status="unchanged")
        assert compare(plain, asked, {}) == Comparison(status="unchanged", added=added)
        assert compare(estimated(), asked, {}).vanished == ()

    def test_the_baseline_behind_it(self):
        """`before` returns the metrics of the baseline."""
        comparison = compare(estimated(), estimated(memory=500), {})
        assert before(comparison, estimated(memory=500).metrics) == estimated().metrics
        assert before(Comparison(status="new"), estimated().metrics) == {}

    def test_before_of_an_older_baseline(self):
        old, new = net({"flops": 1}), net({"flops": 2}, launches=7)
        assert before(compare(old, new, {}), new.metrics) == {"flops": 1}


class TestLatency:
    @pytest.mark.parametrize(
        ("now", "status"), [(110, "unchanged"), (111, "regressed"), (91, "unchanged"), (90, "improved")]
    )
    def test_within_a_tenth_it_is_the_same(self, now, status):
        """If two latencies differ by at most a tenth of the smaller one, the status is "unchanged"."""
        comparison = compare(timed(100), timed(now), {})
        assert comparison.status == status
        assert comparison.steady == (("latency[box]",) if status == "unchanged" else ())

    def test_its_own_tolerance(self):
        """The tolerance of FLOPs does not apply to a latency."""
        tolerance = {"latency": Tolerance(absolute=1), "flops": Tolerance(absolute=99)}
        assert compare(timed(100), timed(102), tolerance).changes == (
            MetricChange("latency[box]", 100, 102, allowed=False, tolerated=1),
        )

    def test_another_machine(self):
        """If the latency is that of another machine, it is neither compared nor reported as missing."""
        assert compare(timed(100, machine="other"), timed(999), {}) == Comparison(
            status="unchanged", added=("latency[box]",)
        )


class TestAnotherPyTorch:
    """The baseline was measured with another minor version of PyTorch than the new measurement."""

    @pytest.mark.parametrize(("launches", "tighter"), [(3, True), (4, True), (5, False)])
    def test_tightening(self, launches, tighter):
        old = msgspec.structs.replace(net({"flops": 9}, launches=4), pytorch="2.12")
        new = msgspec.structs.replace(net({"flops": 8}, launches=launches), pytorch="2.13")
        comparison = compare(old, new, {})
        assert comparison.status == "improved"
        assert tightens(comparison) == tighter
