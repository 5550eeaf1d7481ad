"""The table of a result: rows, sums, output shapes, totals, remarks; and the conversions of a result."""

from __future__ import annotations

import json
import re
import sys
import types

import pytest
from build import complexity, cumulated
from explained import blocks
from hypothesis import given
from hypothesis import strategies as st
from reporting import complexities

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.results.data import Latency, Module, Phase, UnknownOperator
from pytest_flopsbudget.results.module_table import never_called
from pytest_flopsbudget.results.module_tree import build_module_tree, walk
from pytest_flopsbudget.results.verdict import Measurement


def module(kind, flops=0, params=0, calls=1, outputs=(), **metrics):
    return Module(
        type=kind,
        calls=calls,
        outputs=outputs,
        metrics={"flops": flops, "params": params, "memory_traffic": 0} | metrics,
    )


def net(modules, **fields):
    """Build a measurement. ``modules`` has {path: module}, and the module "" has the totals."""
    return complexity(modules[""].metrics, modules, **fields)


def transformer(layers=3):
    """Build a model with a list of equal layers (10 + 20 FLOPs each) and a head (5 FLOPs)."""
    modules = {"": module("Net", 30 * layers + 5, 4 * layers + 2, outputs=("float32[1, 9]",))}
    modules["head"] = module("Linear", 5, 2, outputs=("float32[1, 9]",))  # it is defined before the layers
    modules["layers"] = module("ModuleList", 30 * layers, 4 * layers, calls=0)
    for number in range(layers):
        modules[f"layers.{number}"] = module("Layer", 30, 4, outputs=("float32[1, 4, 8]", "int64[1]", "float32[]"))
        modules[f"layers.{number}.up"] = module("Linear", 10, 4)
        modules[f"layers.{number}.act"] = module("ReLU", 20)
    return net(modules)


def rows(table):
    """Return {name: cells} of the table's rows, without the lines of the tree."""
    lines = table.splitlines()[3:]
    cells = [line.split("  ") for line in lines[: lines.index("")]]
    found = [[cell.strip(" \u251c\u2500\u2514\u2502") for cell in row] for row in cells]
    return {row[0]: row[1:] for row in ([cell for cell in row if cell] for row in found)}


class TestRows:
    def test_siblings_are_summed(self):
        found = rows(transformer().table())
        assert found["layers.{0-2}"] == ["Layer x3", "1\u00d74\u00d78 +2", "3", "90", "12", "0 B"]
        assert found["up"] == ["Linear x3", "3", "30", "12", "0 B"]
        assert found["act"] == ["ReLU x3", "3", "60", "0", "0 B"]
        assert found["(model)"] == ["Net", "1\u00d79", "1", "95", "14", "0 B"]

    def test_the_order_is_that_of_the_model(self):
        assert list(rows(transformer().table())) == ["(model)", "head", "layers.{0-2}", "up", "act"]

    def test_numbers_are_in_order(self):
        """Modules with numbers as names are listed in the order of the numbers."""
        measured = net({"": module("Net", 3), "s": module("S", 3), "s.1": module("B", 2), "s.0": module("A", 1)})
        assert list(rows(measured.table())) == ["(model)", "s", "0", "1"]

    def test_guides(self):
        kinds = {"": "N", "a": "A", "a.x": "X", "a.y": "Y", "b": "B", "b.z": "Z"}
        table = net({path: module(kind) for path, kind in kinds.items()}).table()
        assert [re.split("  +[A-Z] ", line)[0].rstrip() for line in table.splitlines()[3:9]] == [
            "(model)",
            "\u251c\u2500 a",
            "\u2502  \u251c\u2500 x",
            "\u2502  \u2514\u2500 y",
            "\u2514\u2500 b",
            "   \u2514\u2500 z",
        ]

    def test_a_container_with_work_has_its_row(self):
        measured = net({"": module("Net", 9), "l": module("List", 9, calls=0), "l.0": module("A", 4)})
        assert list(rows(measured.table())) == ["(model)", "l", "0"]

    def test_a_called_module_has_its_row(self):
        measured = net({"": module("Net", 4), "wrap": module("Wrap", 4), "wrap.inner": module("A", 4)})
        assert list(rows(measured.table())) == ["(model)", "wrap", "inner"]

    def test_different_outputs(self):
        """If equal modules have different outputs, their row says "various"."""
        measured = net({
            "": module("Net"),
            "0": module("Flatten", outputs=("float32[6]",)),
            "1": module("Flatten", outputs=("float32[2, 3]",)),
        })  # fmt: skip
        assert rows(measured.table())["{0-1}"][:2] == ["Flatten x2", "various"]

    def test_no_outputs_no_column(self):
        assert "output" not in blocks().table()

    def test_a_single_module(self):
        assert list(rows(net({"": module("Net", 1)}).table())) == ["(model)"]

    @given(complexities(), st.sampled_from([None, 1, 20, 40, 80, 120]), st.sampled_from([None, 0, 1, 3]))
    def test_of_anything(self, measured, width, depth):
        table = measured.table(width=width, depth=depth)
        assert table
        if width is None and depth is None:
            groups = walk(build_module_tree(measured))
            shared = sum(
                bool(g.path and not g.calls and len(g.children) == 1 and not any(g.self_metrics.values()))
                for g in groups
            )
            lines = table.splitlines()
            assert lines.index("") - 3 == len(groups) - shared


class TestDepth:
    def test_levels(self):
        assert list(rows(transformer().table(depth=0))) == ["(model)"]
        assert list(rows(transformer().table(depth=1))) == ["(model)", "head", "layers.{0-2}"]
        assert "1 of 2 levels shown; table() shows all 5 rows" in transformer().table(depth=1)
        assert "levels shown" not in transformer().table(depth=2)
        assert transformer().table(depth=99) == transformer().table()

    def test_negative(self):
        with pytest.raises(UsageError, match="depth=-1"):
            transformer().table(depth=-1)

    def test_print_shows_whole_levels(self):
        """If a table has more than 40 rows, `print` leaves out its deepest level."""
        modules = {"": module("Net"), "a": module("A")} | {f"a.m{i}": module(f"M{i}") for i in range(38)}
        assert len(rows(str(net(modules)))) == 40
        assert len(rows(str(net(modules | {"b": module("B")})))) == 3

    def test_print_keeps_one_level(self):
        assert len(rows(str(net({"": module("Net")} | {f"m{i}": module(f"M{i}") for i in range(99)})))) == 100


class TestMetrics:
    def test_chosen(self):
        found = rows(transformer().table(metrics=["macs", "params"]))
        assert found["layers.{0-2}"][-2:] == ["45", "12"]

    def test_one_text(self):
        assert rows(transformer().table(metrics="macs"))["head"][-1] == "2"

    def test_peaks_are_no_sums(self):
        measured = net({
            "": module("Net", peak_memory=99), "0": module("A", peak_memory=7), "1": module("A", peak_memory=5),
        })  # fmt: skip
        found = rows(measured.table(metrics=["peak_memory"]))
        assert [found["(model)"][-1], found["{0-1}"][-1]] == ["99 B", "7 B"]

    def test_ratios_of_sums(self):
        modules = {path: module("A", 6, other_flops=2, memory_traffic=4) for path in ("0", "1")}
        measured = net({"": module("Net", 12, other_flops=4, memory_traffic=16)} | modules)
        found = rows(measured.table(metrics=["arithmetic_intensity"]))
        assert [found["(model)"][-1], found["{0-1}"][-1]] == ["1 FLOPs/byte", "2 FLOPs/byte"]

    def test_of_the_whole_model(self):
        """Only the model has the metric `depth`."""
        found = rows(net({"": module("Net", depth=4), "a": module("A")}).table(metrics=["depth"]))
        assert [found["(model)"][-1], found["a"][-1]] == ["4", "1"]  # the last cell of "a" is its number of calls

    def test_estimated_time(self):
        table = blocks().table(metrics=["time[chip]"])
        assert "est. time chip" in table
        assert rows(table)["(model)"][-1].startswith(">=")

    def test_no_products(self):
        """If a model has no products, its table shows the total FLOPs."""
        measured = net({"": module("Net", other_flops=8)})
        assert rows(measured.table())["(model)"] == ["Net", "1", "8", "0", "0 B"]
        assert "total FLOPs" in measured.table().splitlines()[1]

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ("flop", "no metric 'flop'"),
            ("time[A100]", "was not measured"),
            ("latency", "was not measured"),
            ("time", r"'time' has a value for each device; name one, as in 'time\[A100\]'"),
        ],
    )
    def test_wrong(self, key, message):
        with pytest.raises(UsageError, match=message):
            transformer().table(metrics=[key])


class TestNeverCalled:
    def test_experts(self):
        """Of the modules that were not called, only the topmost are named, those with the most parameters first."""
        modules = {"": module("Net"), "gate": module("Linear"), "experts": module("ModuleList", calls=0)}
        for number in range(5):
            modules[f"experts.{number}"] = module("Expert", params=6, calls=int(number == 1))
            modules[f"experts.{number}.up"] = module("Linear", params=6, calls=int(number == 1))
        modules["old"] = module("Linear", params=9, calls=0)
        assert list(never_called(modules)) == ["old", "experts.{0,2-4}"]
        assert "never called: old (Linear), experts.{0,2-4} (Expert)" in net(modules).table().splitlines()

    def test_a_whole_list(self):
        modules = {"": module("N"), "l": module("ModuleList", params=2, calls=0), "l.0": module("A", params=2, calls=0)}
        assert list(never_called(modules)) == ["l"]

    def test_lists_of_called_modules_and_empty_lists(self):
        """An uncalled container is not named if it is empty or if the modules in it were called."""
        modules = {
            "": module("N"), "l": module("ModuleList", calls=0), "l.0": module("A"),
            "none": module("ModuleList", calls=0),
            "p": module("ParameterList", params=3, calls=0), "d": module("ParameterDict", params=3, calls=0),
        }  # fmt: skip
        assert never_called(modules) == {}
        assert "never called" not in net(modules).table()

    def test_a_method_of_the_model(self):
        """If only a method of the model was measured, the model itself is not named."""
        modules = {"": module("N", calls=0), "a": module("A"), "b": module("B", calls=0)}
        assert list(never_called(modules)) == ["b"]

    def test_nothing_was_called(self):
        modules = {"": module("N", calls=0), "a": module("A", calls=0)}
        assert never_called(modules) is None
        assert "no module was called" in net(modules).table()

    def test_a_gap(self):
        modules = {"": module("N"), "a.b": module("B"), "a.c": module("C", calls=0)}
        assert list(never_called(modules)) == ["a.c"]

    def test_and_more(self):
        """Only three modules are named, and the others are counted."""
        modules = {"": module("N"), "s": module("Sequential")}
        modules |= {f"m{i}": module(f"M{i}", params=9 - i, calls=0) for i in range(4)}
        modules |= {f"s.{i}": module("A", calls=0) for i in range(2)}
        assert "never called: m0 (M0), m1 (M1), m2 (M2) and 3 more" in net(modules).table()


class TestRemarks:
    def test_unknown_operators(self):
        unknown = {"lib.op": UnknownOperator(calls=2, modules=("", "a"))}
        assert "not counted: lib.op: 2 calls in Net, a" in net({"": module("Net")}, unknown_operators=unknown).table()

    def test_notes(self):
        assert "A note." in net({"": module("Net")}, notes=("A note.",)).table().splitlines()

    def test_the_way_it_was_counted(self):
        phases = {
            name: Phase(metrics={"flops": flops}) for name, flops in (("forward", 1), ("backward", 2), ("optimizer", 0))
        }
        first = net({"": module("Net")}, phases=phases, execution="real", inputs=()).table().splitlines()[0]
        assert first == "Net of no tensors: forward and backward, ran on data"

    def test_totals(self):
        timing = Latency(machine="box", median_ns=2_000_000, q1_ns=1, q3_ns=3, runs=1, threads=1)
        measured = net({"": module("Net", 8, 3, **{"latency[box]": 2_000_000, "trainable_params": 3})}, timing=timing)
        table = measured.table()
        assert "latency box" in table
        assert "2 ms" in table
        assert "trainable" not in table  # all parameters are


class TestConversions:
    def test_repr(self):
        assert repr(transformer()) == "<Complexity of Net: 95 FLOPs, 14 params>"
        assert len(repr(net({"": module("Net")}, model="N" * 4000))) < 120
        assert "\n" not in repr(net({"": module("Net")}, model="a\nb"))

    def test_measurement(self):
        one = Measurement(name="encoder", complexity=transformer())
        assert str(one) == f"encoder: {transformer()}"
        assert repr(one) == "<Measurement 'encoder': <Complexity of Net: 95 FLOPs, 14 params>>"
        assert one._repr_html_() == transformer()._repr_html_()

    def test_dict_and_json(self):
        found = transformer().to_dict()
        assert found["modules"]["layers.1"] == {
            "metrics": {"flops": 30, "params": 4, "memory_traffic": 0}, "type": "Layer", "shape": "", "calls": 1,
            "outputs": ["float32[1, 4, 8]", "int64[1]", "float32[]"],
        }  # fmt: skip
        assert (
            json.loads(transformer().to_json())
            == json.loads(transformer().to_json(indent=2))
            == json.loads(json.dumps(found))
        )
        assert "\n" in transformer().to_json(indent=2)

    def test_pandas(self, monkeypatch):
        frames = []
        fake = types.SimpleNamespace(
            DataFrame=lambda rows, index: frames.append((rows, index)), Index=lambda items, name: (items, name)
        )
        monkeypatch.setitem(sys.modules, "pandas", fake)
        transformer(1).to_pandas()
        ((found, index),) = frames
        assert index == (["", "head", "layers", "layers.0", "layers.0.up", "layers.0.act"], "module")
        assert found[3] == {
            "type": "Layer", "shape": "", "outputs": "float32[1, 4, 8], int64[1], float32[]", "calls": 1,
            "flops": 30, "params": 4, "memory_traffic": 0,
        }  # fmt: skip

    def test_no_pandas(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(ImportError, match="pip install pandas"):
            transformer().to_pandas()


def test_sums_agree_with_the_tree():
    values = {"a": 3, "b.0.x": 4, "b.1.x": 4, "c": 5}
    totals = cumulated({path: values.get(path, 0) for path in ("", "a", "b", "b.0", "b.0.x", "b.1", "b.1.x", "c")})
    found = rows(net({path: module("M" + path[:1], value) for path, value in totals.items()}).table())
    assert [int(found[name][-3]) for name in ("(model)", "a", "x", "c")] == [16, 3, 8, 5]
