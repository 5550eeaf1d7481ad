"""Whether a test id names the same model as before."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from samples import linear

from pytest_flopsbudget.results.comparison import compare, tightens
from pytest_flopsbudget.results.identity import find_neighbours, ids_of_equal_cost, is_another_model

TESTS = {
    "test_net[a0]": {"model": linear(4), "head": linear(2)},
    "test_net[a1]": {"model": linear(5)},
    "test_net[a2]": {"other": linear(5)},
    "test_other[a0]": {"model": linear(6)},
    "test_net": {"model": linear(7)},
}


class TestNeighbours:
    """Neighbours are measurements of the same test under another name or with other parameters."""

    @pytest.mark.parametrize(
        ("test_id", "name", "found"),
        [
            ("test_net[a0]", "model", {"test_net[a0]:head", "test_net[a1]", "test_net"}),
            ("test_net[a1]", "model", {"test_net[a0]", "test_net"}),
            ("test_net[a0]", "head", {"test_net[a0]:model"}),
            ("test_other[a0]", "model", set()),
        ],
    )
    def test_found(self, test_id, name, found):
        assert find_neighbours(TESTS, test_id, name)().keys() == found

    def test_none(self):
        assert find_neighbours(TESTS, "test_net", "model") is None


class TestAnotherModel:
    """Two models are different if their class or the sizes of their modules differ."""

    @pytest.mark.parametrize(
        ("other", "another"),
        [
            (linear(4), False),
            (linear(4, batch=9), False),
            (linear(4, extra=1), False),
            (linear(5), True),
            (linear(4, model="Other"), True),
        ],
    )
    def test_told_apart(self, other, another):
        assert is_another_model(linear(4), other) is another

    def test_renamed_module(self):
        """If only the names of modules differ, the model is the same."""
        root, layer = linear(4).modules.values()
        assert not is_another_model(linear(4), replace(linear(4), modules={"new": layer, "": root}))

    def test_metric_that_an_old_baseline_lacks(self):
        """If a baseline does not have param_bytes, the model is recognized by its other sizes."""
        metrics = {"flops": 64, "params": 20}
        modules = {path: replace(module, metrics=metrics) for path, module in linear(4).modules.items()}
        assert not is_another_model(replace(linear(4), metrics=metrics, modules=modules), linear(4))


class TestComparison:
    def compared(self, old, new, **neighbours):
        return compare(old, new, {}, lambda: neighbours)

    def test_cheaper(self):
        comparison = self.compared(linear(4), linear(3), second=linear(3), third=linear(3, batch=1))
        assert (comparison.status, comparison.another_model, comparison.equal_to) == ("changed", True, ("second",))
        assert not tightens(comparison)

    def test_more_expensive(self):
        comparison = self.compared(linear(4), linear(5))
        assert (comparison.status, comparison.another_model) == ("regressed", True)

    def test_less_work_in_one_model(self):
        comparison = self.compared(linear(4, extra=9), linear(4))
        assert (comparison.status, comparison.another_model) == ("improved", False)

    def test_less_work_that_a_neighbour_had(self):
        comparison = self.compared(linear(4, extra=9), linear(4), second=linear(4))
        assert (comparison.status, comparison.another_model, comparison.equal_to) == ("changed", True, ("second",))

    def test_equal(self):
        """If the cost is equal, the comparison does not report another model."""
        comparison = self.compared(linear(4), linear(4), second=linear(4))
        assert (comparison.status, comparison.another_model, comparison.equal_to) == ("unchanged", False, ())

    def test_ids_of_equal_cost(self):
        """`ids_of_equal_cost` returns only ids with the same model, the same input and equal metrics."""
        found = ids_of_equal_cost(linear(4), {"a": linear(4), "b": linear(4, extra=1), "c": linear(4, model="Other")})
        assert found == ("a",)
