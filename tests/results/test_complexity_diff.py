"""`compare`: the table of the modules that differ between two results."""

from __future__ import annotations

import pytest
from build import complexity
from hypothesis import given
from reporting import complexities

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.results.complexity_diff import compare
from pytest_flopsbudget.results.data import Module, UnknownOperator
from pytest_flopsbudget.results.verdict import Measurement


def module(kind, flops=0, params=0, shape="", calls=1, **metrics):
    return Module(type=kind, shape=shape, calls=calls, metrics={"flops": flops, "params": params} | metrics)


def net(modules, **fields):
    root = {"": module("Net", sum(one.flops for path, one in modules.items() if "." not in path), 7)}
    return complexity(root[""].metrics, root | modules, **fields)


def layers(flops, shape, count=4):
    """Return {path: module} for a list of equal layers, each with a convolution."""
    modules = {"layers": module("ModuleList", count * flops, calls=0)}
    for number in range(count):
        modules[f"layers.{number}"] = module("Layer", flops)
        modules[f"layers.{number}.conv"] = module("Conv2d", flops, shape=shape)
    return modules


def rows(table):
    lines = table.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("\u2500")) + 1
    stop = [*lines, ""].index("", start)
    cells = [[cell.strip(" \u251c\u2500\u2514\u2502") for cell in line.split("  ")] for line in lines[start:stop]]
    return {row[0]: row[1:] for row in ([cell for cell in row if cell] for row in cells)}


class TestRows:
    def test_equal_changes_share_a_row(self):
        """If equal layers change equally, they share one row with their sums."""
        old, new = (
            net(layers(9, "3x3") | {"head": module("Linear", 4)}),
            net(layers(25, "5x5") | {"head": module("Linear", 4)}),
        )
        found = rows(compare(old, new).table())
        assert found == {
            "(model)": ["Net", "40", "104", "+160.0%"],
            "layers.{0-3}": ["Layer x4", "36", "100", "+177.8%"],
            "conv": ["Conv2d x4", "3x3 -> 5x5", "36", "100", "+177.8%"],
        }
        assert "1 unchanged module not shown" in compare(old, new).table()

    def test_one_of_them(self):
        new = net(
            layers(9, "3x3") | {"layers.2": module("Layer", 20), "layers.2.conv": module("Conv2d", 20, shape="5x5")}
        )
        found = rows(compare(net(layers(9, "3x3")), new).table())
        assert found["layers.2"][-3:] == ["9", "20", "+122.2%"]

    def test_added_and_removed(self):
        """If a subtree was added or removed, only its topmost module has a row."""
        old = net({"a": module("A", 5), "b": module("B", 6), "b.x": module("X", 6)})
        new = net({"a": module("A", 5), "c": module("C", 8), "c.y": module("Y", 8)})
        assert rows(compare(old, new).table()) == {
            "(model)": ["Net", "11", "13", "+18.2%"],
            "c": ["C", "added", "0", "8", "new"],
            "b": ["B", "removed", "6", "0", "-100.0%"],
        }

    def test_added_to_a_list(self):
        found = rows(compare(net(layers(9, "3x3")), net(layers(9, "3x3", 6))).table())
        assert found["layers.{4-5}"] == ["Layer x2", "added", "0", "18", "new"]

    def test_renamed(self):
        old = net({"body": module("Body", 6), "body.x": module("X", 6), "body.x.z": module("Z", 6)})
        new = net({"trunk": module("Body", 6), "trunk.x": module("X", 6), "trunk.x.z": module("Z", 6)})
        found = rows(compare(old, new).table())
        assert list(found) == ["(model)", "trunk"]
        assert found["trunk"][:2] == ["Body", "was body"]

    def test_another_class(self):
        old, new = net({"a": module("ReLU", other_flops=1)}), net({"a": module("GELU", other_flops=9)})
        assert rows(compare(old, new).table())["a"][0] == "ReLU -> GELU"

    def test_calls(self):
        found = rows(compare(net({"a": module("A", 5)}), net({"a": module("A", 10, calls=2)})).table())
        assert found["a"] == ["A", "1 -> 2 calls", "5", "10", "+100.0%"]

    def test_params_alone(self):
        """Only metrics that changed have columns."""
        table = compare(net({"a": module("A", 5, 1)}), net({"a": module("A", 5, 3)})).table()
        assert "FLOPs" not in table.splitlines()[1]
        assert rows(table)["a"] == ["A", "1", "3", "+200.0%"]

    def test_close_values_are_exact(self):
        found = rows(compare(net({"a": module("A", 1_000_001)}), net({"a": module("A", 1_000_002)})).table())
        assert found["a"] == ["A", "1,000,001", "1,000,002", "<0.01%"]

    def test_nothing_changed(self):
        measured = net(layers(9, "3x3"))
        assert "no module changed" in compare(measured, measured).table()
        assert compare(measured, measured).to_dict()["modules"] == {}

    def test_chosen_metrics(self):
        found = rows(compare(net({"a": module("A", 6)}), net({"a": module("A", 8)})).table(metrics=["macs"]))
        assert found["a"] == ["A", "3", "4", "+33.3%"]

    def test_peaks_are_no_sums(self):
        old = net({str(i): module("A", peak_memory=3) for i in range(2)})
        new = net({str(i): module("A", peak_memory=5) for i in range(2)})
        for side in (old, new):
            side.metrics["peak_memory"] = 9
        assert rows(compare(old, new).table(metrics=["peak_memory"]))["{0-1}"] == ["A x2", "3 B", "5 B", "+66.7%"]


class TestAround:
    def test_the_inputs_changed(self):
        old, new = net({}, inputs=("float32[1]",)), net({}, inputs=("float32[2]",))
        assert (
            compare(old, new)
            .table()
            .startswith("before: Net of float32[1]: forward, counted on shapes; now: Net of float32[2]: forward")
        )

    def test_remarks(self):
        unknown = {"lib.op": UnknownOperator(calls=1, modules=("a",))}
        table = compare(net({"a": module("A")}, unknown_operators=unknown), net({"a": module("A", calls=0)})).table()
        assert "not counted before: lib.op: 1 call in a" in table
        assert "never called: a (A)" in table

    def test_measurements(self):
        old, new = net({"a": module("A", 1)}), net({"a": module("A", 2)})
        both = [Measurement(name="x", complexity=one) for one in (old, new)]
        assert compare(*both) == compare(old, new)
        assert str(compare(*both)) == str(compare(old, new))
        assert repr(compare(old, new)).count("Complexity of Net") == 2

    @pytest.mark.parametrize("wrong", [None, 3, "report.json", {"flops": 3}])
    def test_no_measurement(self, wrong):
        with pytest.raises(UsageError, match="is no measurement"):
            compare(net({}), wrong)

    def test_a_metric_of_one_side(self):
        old = complexity({"flops": 1, "params": 1})
        new = complexity({"flops": 1, "params": 1, "depth": 1})
        with pytest.raises(UsageError, match="'depth' was not measured"):
            compare(old, new).table(metrics=["depth"])

    def test_dict(self):
        found = compare(net({"a": module("A", 1)}), net({"b": module("B", 2)})).to_dict()
        assert found["totals"]["flops"] == {"before": 1, "now": 2}
        assert [(path, one["before"] is None, one["now"] is None) for path, one in found["modules"].items()] == [
            ("", False, False), ("b", True, False), ("a", False, True),
        ]  # fmt: skip

    @given(complexities(), complexities())
    def test_of_anything(self, old, new):
        difference = compare(old, new)
        assert str(difference)
        assert difference._repr_html_()
        assert difference.table(width=40)
        difference.to_dict()
