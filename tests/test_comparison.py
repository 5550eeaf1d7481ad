from fractions import Fraction

import msgspec
import pytest
from test_baseline import small

from pytest_flopsbudget.results.comparison import Comparison, MetricChange, compare
from pytest_flopsbudget.units import Tolerance


class TestCompare:
    def test_new(self):
        """Without a baseline a measurement is new."""
        assert compare(None, small(), {}) == Comparison(status="new")

    def test_unchanged(self):
        """Equal values are unchanged."""
        assert compare(small(5), small(5), {}) == Comparison(status="unchanged")

    @pytest.mark.parametrize(
        ("new", "status", "allowed"), [(101, "within", True), (102, "regressed", False), (99, "improved", True)]
    )
    def test_tolerance(self, new, status, allowed):
        """Growth of one percent of 100 passes, more does not, less cost always does."""
        tolerance = {"flops": Tolerance(relative=Fraction(1, 100), absolute=0)}
        comparison = compare(small(100), small(new), tolerance)
        assert comparison == Comparison(status=status, changes=(MetricChange("flops", 100, new, allowed),))

    def test_no_tolerance_is_none(self):
        """Without a tolerance, growth by one is a regression."""
        assert compare(small(100), small(101), {"params": Tolerance(Fraction(1), 0)}).status == "regressed"

    @pytest.mark.parametrize(
        ("flops", "params", "status"),
        [(101, 1, "regressed"), (101, 10, "regressed"), (1, 11, "within"), (1, 10, "improved"), (100, 11, "within")],
    )
    def test_several_metrics(self, flops, params, status):
        """The worst metric decides: regressed, then within, then improved."""
        old = small(metrics={"flops": 100, "params": 10})
        new = small(metrics={"flops": flops, "params": params})
        tolerance = {"params": Tolerance(Fraction(0), 1)}
        assert compare(old, new, tolerance).status == status

    def test_changes_are_in_table_order(self):
        """Changes come in the order of the table of metrics."""
        old = small(metrics={"buffer_bytes": 1, "params": 1, "flops": 1})
        new = small(metrics={"params": 2, "buffer_bytes": 2, "flops": 2})
        assert [change.metric for change in compare(old, new, {}).changes] == ["flops", "params", "buffer_bytes"]

    def test_circumstances(self):
        """Changed inputs, execution and direction are told, and so are metrics that are no longer measured."""
        old = small(metrics={"flops": 1, "params": 7})
        new = small(inputs=("float32[2]",), execution="real", backward=True)
        assert compare(old, new, {}) == Comparison(
            status="unchanged",
            inputs_changed=(("float32[1]",), ("float32[2]",)),
            execution_changed=("shapes", "real"),
            backward_changed=(False, True),
            vanished=("params",),
        )

    def test_new_metric(self):
        """A metric that the baseline does not have yet is no growth."""
        assert compare(small(1), small(metrics={"flops": 1, "params": 9}), {}).status == "unchanged"

    def test_travels(self):
        """A comparison survives the way between processes as plain data."""
        comparison = compare(small(1), small(2**70, inputs=("int64[1]",), execution="real"), {})
        assert msgspec.convert(msgspec.to_builtins(comparison), Comparison) == comparison
