"""The tree of modules: equal siblings are one group, and groups are ranked by cost."""

from __future__ import annotations

from fractions import Fraction

from explained import DEVICE, SUMS, blocks, complexity, leaf, metrics
from hypothesis import given
from reporting import complexities

from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.module_tree import build_module_tree, rank_groups, share_of_total, walk, weight

TOTAL = blocks().metrics


def by_path(root):
    return {group.path: group for group in walk(root)}


class TestTree:
    def test_equal_siblings_are_one(self):
        found = by_path(build_module_tree(blocks()))
        assert sorted(found) == ["", "head", "layers", "layers.{0-1}", "layers.{0-1}.linear"]
        assert found["layers.{0-1}.linear"].count == 2
        assert found["layers.{0-1}.linear"].total_metrics["flops"] == 2 * 200

    def test_what_it_does_itself(self):
        """The self values of a module do not include its children."""
        found = by_path(build_module_tree(blocks()))
        # Each of the two blocks adds 10 numbers by itself.
        assert found["layers.{0-1}"].self_metrics["flops"] == 0
        assert found["layers.{0-1}"].self_metrics["other_flops"] == 2 * 10
        assert found["layers.{0-1}"].self_metrics["memory_traffic"] == 2 * 120
        assert not any(found["layers"].self_metrics.values())
        assert not any(found[""].self_metrics.values())

    @given(complexities())
    def test_of_anything(self, measured):
        groups = walk(build_module_tree(measured))
        assert sum(group.count for group in groups) == len({"", *measured.modules})
        assert all(value >= 0 for group in groups for value in group.self_metrics.values())

    def test_adds_up(self):
        groups = walk(build_module_tree(blocks()))
        for key in ("flops", "other_flops", "memory_traffic", "launches", "memory_time[chip]"):
            assert TOTAL[key] == sum(group.self_metrics[key] for group in groups)

    def test_a_shared_parameter(self):
        """If two children share a parameter, their parent has no parameters of its own."""
        shared = leaf("Embedding", params=30)
        measured = complexity({"": leaf("Net", params=30), "a": shared, "b": shared})
        assert build_module_tree(measured).self_metrics["params"] == 0

    def test_a_gap(self):
        """If the parent of a module is missing, the module is a child of its nearest existing ancestor."""
        measured = complexity({"": leaf("Net", flops=7), "a.b": leaf("Linear", flops=5)})
        (child,) = build_module_tree(measured).children
        assert child.path == "a.b"
        assert build_module_tree(measured).self_metrics["flops"] == 7 - 5

    def test_calls(self):
        measured = complexity({"": leaf("Net"), "0": leaf("ReLU", calls=3), "1": leaf("ReLU", calls=3)})
        (child,) = build_module_tree(measured).children
        assert child.calls == 2 * 3

    def test_peaks_tell_siblings_apart_no_more(self):
        one, other = ({**metrics(flops=5), "peak_memory": peak} for peak in (10, 20))
        modules = {"": leaf("Net", flops=10)}
        modules |= {str(i): Module(type="Linear", calls=1, metrics=own) for i, own in enumerate((one, other))}
        assert [child.path for child in build_module_tree(complexity(modules)).children] == ["{0-1}"]


class TestWeight:
    def test_share(self):
        assert Fraction(1, 5) == share_of_total({"flops": 100}, {"flops": 500}, "flops")
        assert share_of_total({"flops": 0}, {"flops": 0}, "flops") is None
        assert share_of_total({}, {"flops": 1}, "flops") is None

    def test_on_a_device(self):
        """With a device, the weight of a module is its share of the time."""
        head = by_path(build_module_tree(blocks()))["head"]
        assert Fraction(1100, 1780) == weight(head.self_metrics, TOTAL, DEVICE.name)

    def test_without_a_device(self):
        """Without a device, the weight of a module is its share of the bytes or of the FLOPs, whichever is larger."""
        found = by_path(build_module_tree(blocks()))
        # The head moves 1,000 of 1,840 bytes. The layers have 400 of 520 FLOPs.
        assert Fraction(1000, 1840) == weight(found["head"].self_metrics, TOTAL, None)
        assert Fraction(400, 520) == weight(found["layers.{0-1}.linear"].self_metrics, TOTAL, None)

    def test_nothing_measured(self):
        assert weight({}, {}, None) == 0


class TestRanked:
    def test_order(self):
        found = rank_groups(build_module_tree(blocks()), TOTAL, DEVICE.name, 10)
        # ns: 1100, 2 * (120 + 100) and 2 * (20 + 100).
        assert [group.path for group in found] == ["head", "layers.{0-1}", "layers.{0-1}.linear"]

    def test_at_most(self):
        assert len(rank_groups(build_module_tree(blocks()), TOTAL, DEVICE.name, 2)) == 2


def test_the_keys_are_there():
    assert set(SUMS) <= TOTAL.keys()
