"""The text of a failing test."""

from __future__ import annotations

import pytest
from budgets import budget
from timed import estimated, net, peaking, timed

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.quantities.metrics import COMPARED
from pytest_flopsbudget.reports.failure import explain
from pytest_flopsbudget.results.complexity import Complexity, Module, Operator, UnknownOperator
from pytest_flopsbudget.results.verdict import Measurement, judge

#: Path → (class, shape, number of its own parameters). Each parameter costs 100 FLOPs.
SMALL = {"": ("Net", "", 0), "stem": ("Conv2d", "3->4, 3x3", 20), "head": ("Linear", "4->10", 5)}
GROWN = SMALL | {"stem": ("Conv2d", "3->4, 5x5", 50)}


def complexity(modules=SMALL, **fields):
    """Build a model from {path of a module: (type, shape, size without children)}."""
    total = {
        path: sum(size for other, (*_, size) in modules.items() if not path or f"{other}.".startswith(f"{path}."))
        for path in modules
    }
    held = {
        path: Module(type=kind, shape=shape, calls=1, metrics={"flops": 100 * total[path], "params": total[path]})
        for path, (kind, shape, _) in modules.items()
    }
    fields = {"inputs": ("float32[1]",), "execution": "shapes", "metrics": held[""].metrics} | fields
    return Complexity(model="Net", modules=held, **fields)


def case(new, old=None, *budgets, name="model", times=1, **settings):
    """Judge a measurement against a baseline and budgets, and return the verdict."""
    measurement = Measurement(name=name, complexity=new, times=times)
    return judge(measurement, budgets, Settings(**settings), old, accepts=False)


def text(*cases):
    return explain("test_net.py::test_net", cases).splitlines()


def growth(*what, metric="flops"):
    """Return the lines about changed modules in the text of a failure. ``what`` are the arguments of `case`."""
    lines = text(case(*what))
    start = lines.index(f"what changed in {metric}, by module:")
    rest = lines[start + 1 :]
    return rest[: next(number for number, line in enumerate(rest) if not line.startswith("    "))]


def test_nothing_is_wrong():
    assert text(case(complexity(), complexity(), budget("here", {"flops": 2500}))) == []


class TestLimits:
    def test_measured_limit_excess(self):
        lines = text(case(complexity(), complexity(), budget("here", {"flops": 2000})))
        assert lines == [
            "flops over its limit: 2.5 kFLOPs > 2 kFLOPs, +500 FLOPs (+25.0%)",
            "    limit set by here",
            "where the FLOPs are:",
            "    stem: Conv2d 3->4, 3x3, 2 kFLOPs",
            "    head: Linear 4->10, 500 FLOPs",
        ]

    def test_of_a_module(self):
        lines = text(case(complexity(), None, budget("here", modules={"st*": {"params": 4}})))
        assert lines[:2] == ["params of stem over its limit: 20 > 4, +16 params (+400.0%)", "    limit set by here"]

    def test_where_it_is(self):
        """If a metric is over its limit, a list shows the modules with the highest values of the metric."""
        lines = text(case(complexity(), None, budget("here", {"flops": 1, "params": 1}, {"stem": {"macs": 1}})))
        assert [line for line in lines if line.startswith("where")] == ["where the FLOPs are:", "where the params are:"]
        assert lines[-2:] == ["    stem: Conv2d 3->4, 3x3, 20 params", "    head: Linear 4->10, 5 params"]

    def test_a_limit_of_nothing(self):
        assert text(case(complexity(), None, budget("here", {"params": 0})))[0] == (
            "params over its limit: 25 > 0, +25 params (the limit is 0)"
        )

    def test_numbers_that_print_alike(self):
        """If the short forms of value and limit are equal, both are shown in full."""
        new = complexity({"": ("Net", "", 1_000_002)})
        assert text(case(new, None, budget("here", {"params": 1_000_001})))[0] == (
            "params over its limit: 1,000,002 > 1,000,001, +1 params (<0.01%)"
        )

    def test_a_metric_that_was_not_measured(self):
        lines = text(case(complexity(), None, budget("here", {"buffer_bytes": 1})))
        assert lines == ["buffer_bytes has a limit, but was not measured", "    limit set by here"]

    def test_a_pattern_that_matches_nothing(self):
        lines = text(case(complexity(), None, budget("here", modules={"heat": {"params": 4}})))
        assert lines == ["modules: no module of Net matches 'heat'; near names: head", "    limit set by here"]


class TestBaseline:
    def test_growth(self):
        lines = text(case(complexity(GROWN), complexity()))
        assert lines == [
            "flops regressed: 2.5 kFLOPs -> 5.5 kFLOPs, +3 kFLOPs (+120.0%)",
            "params regressed: 25 -> 55, +30 params (+120.0%)",
            "what changed in flops, by module:",
            "    stem: Conv2d 3x3 -> 5x5, +3 kFLOPs",
            "what changed in params, by module:",
            "    stem: Conv2d 3x3 -> 5x5, +30 params",
            "to accept: pytest --flops-budget-update test_net.py::test_net",
        ]

    def test_largest_first(self):
        new = GROWN | {"head": ("Linear", "4->80", 40)}
        assert [line.split(":")[0].strip() for line in growth(complexity(new), complexity())] == ["head", "stem"]

    @pytest.mark.parametrize(
        ("new", "line"),
        [
            (SMALL | {"head": ("Bilinear", "4->10", 9)}, "    head: Linear 4->10 -> Bilinear 4->10, +400 FLOPs"),
            (SMALL | {"tail": ("Linear", "10->2", 9)}, "    tail: new Linear 10->2, +900 FLOPs"),
            (SMALL | {"head": ("Linear", "4->10", 9)}, "    head: Linear, +400 FLOPs"),
            (SMALL | {"": ("Net", "", 3)}, "    the model itself: Net, +300 FLOPs"),
        ],
        ids=["class", "new", "own", "root"],
    )
    def test_what_became_of_a_module(self, new, line):
        assert growth(complexity(new), complexity()) == [line]

    def test_a_removed_module(self):
        new = {path: fields for path, fields in GROWN.items() if path != "head"}
        assert growth(complexity(new), complexity())[-1] == "    head: removed Linear 4->10, -500 FLOPs"

    def test_equal_layers_at_once(self):
        old = {"": ("Net", "", 0)} | {f"layers.{i}": ("Linear", "2->2", 4) for i in range(8)}
        new = {"": ("Net", "", 0)} | {f"layers.{i}": ("Linear", "2->3", 6) for i in range(8)}
        assert growth(complexity(new), complexity(old)) == ["    layers.{0-7} (x8): Linear 2->2 -> 2->3, +1.6 kFLOPs"]

    def test_many_rows_are_summed_up(self):
        """If more than twelve modules changed, the smallest changes share one line."""
        old = {"": ("Net", "", 0)} | {f"m{i}": ("Linear", "", 100) for i in range(1, 16)}
        new = {"": ("Net", "", 0)} | {f"m{i}": ("Linear", "", 100 + i) for i in range(1, 16)}
        lines = growth(complexity(new), complexity(old), metric="params")
        assert len(lines) == 13
        assert lines[0] == "    m15: Linear, +15 params"
        assert lines[-1] == "    and 3 more, +6 params"

    def test_operators(self):
        old = complexity(operators={"aten.mm": Operator(calls=1, metrics={"flops": 500})})
        new = complexity(
            GROWN,
            operators={
                "aten.mm": Operator(calls=2, metrics={"flops": 600}),
                "aten.convolution": Operator(calls=1, metrics={"flops": 2000}),
            },
        )
        lines = text(case(new, old))
        start = lines.index("what changed in flops, by operator:")
        assert lines[start + 1 : start + 3] == [
            "    aten.convolution: +2 kFLOPs, calls 0 -> 1",
            "    aten.mm: +100 FLOPs, calls 1 -> 2",
        ]

    def test_what_differs_in_how_it_ran(self):
        """If the input changed, or the model now ran on real data, the text says so before the list of modules."""
        new = complexity(GROWN, inputs=("float32[2]",), execution="real", backward=True)
        old = complexity(metrics=complexity().metrics | {"param_bytes": 100})
        lines = text(case(new, old))
        start = lines.index("the input changed: float32[1] -> float32[2]")
        assert lines[start + 1 : start + 5] == [
            "the baseline was measured on shapes alone, this on real data",
            "the baseline was measured without the backward pass, this with it",
            "param_bytes is in the baseline and was not measured now",
            "what changed in flops, by module:",
        ]

    def test_a_limit_and_growth(self):
        """If a limit is broken and the model grew, the limit is shown first."""
        lines = text(case(complexity(GROWN), complexity(), budget("here", {"flops": 3000})))
        assert lines[0].startswith("flops over its limit: 5.5 kFLOPs > 3 kFLOPs")
        assert lines[2].startswith("flops regressed:")
        assert sum("by module" in line for line in lines) == 2
        assert not any("where the" in line for line in lines)


class TestReactions:
    def test_missing_baseline(self):
        assert text(case(complexity(), missing_baseline="fail")) == [
            'no baseline, and missing-baseline = "fail"',
            "to accept: pytest --flops-budget-update test_net.py::test_net",
        ]

    def test_improved_baseline(self):
        lines = text(case(complexity(), complexity(GROWN), improved_baseline="fail"))
        assert lines[0] == "flops improved: 5.5 kFLOPs -> 2.5 kFLOPs, -3 kFLOPs (-54.5%)"
        assert "    stem: Conv2d 5x5 -> 3x3, -3 kFLOPs" in lines

    def test_unknown_operators(self):
        unknown = {
            "mine.op": UnknownOperator(calls=1, modules=("",)),
            "mine.op2": UnknownOperator(calls=9, modules=tuple("abcd")),
        }
        lines = text(case(complexity(unknown_operators=unknown), complexity(), unknown_operators="fail"))
        assert lines[:3] == [
            'operators without a formula, and unknown-operators = "fail"',
            "    mine.op: 1 call in Net",
            "    mine.op2: 9 calls in a, b, c, ...",
        ]
        assert '    @flops_formula("mine::op")' in lines
        assert not any("--flops-budget-update" in line for line in lines)


class TestSeveral:
    def test_each_failing_one_is_told(self):
        limit = budget("here", {"params": 24})
        lines = text(
            case(complexity(), complexity(), limit, name="student"),
            case(complexity({"": ("Net", "", 1)}), None, limit, name="fine"),
            case(complexity(GROWN), complexity(), limit, name="teacher"),
        )
        assert lines[0].startswith("student: params over its limit: 25 > 24")
        assert "" in lines
        assert any(line.startswith("teacher: params over its limit: 55 > 24") for line in lines)
        assert any(line.startswith("teacher: flops regressed:") for line in lines)
        assert not any("fine" in line for line in lines)

    def test_the_largest_of_many(self):
        lines = text(case(complexity(), complexity(), budget("here", {"params": 24}), times=1200))
        assert "the largest of 1,200 measurements" in lines

    def test_a_node_id_with_blanks_is_quoted(self):
        verdict = case(complexity(), missing_baseline="fail")
        assert explain("a.py::t[x y]", [verdict]).endswith("--flops-budget-update 'a.py::t[x y]'")


class TestBeyondWork:
    """Failures of metrics that are estimates, ratios, peaks or latencies."""

    def test_a_time(self):
        """If an estimated time is over its limit, the text says that the time is a lower bound."""
        lines = text(case(estimated(), estimated(), budget("here", {"time[A100]": 1000})))
        assert lines == [
            "time[A100] over its limit: at least 1.4 us > 1 us, +400 ns (+40.0%) (estimate)",
            "    limit set by here",
            "A100: at least 1.4 us (estimate), compute-bound (compute 900 ns, memory 300 ns, launches 200 ns)",
            "where the est. time A100 is:",
            "    stem: Conv2d 3->4, 3x3, at least 1 us (estimate)",
            "    head: Linear 4->10, at least 400 ns (estimate)",
        ]

    def test_growth_of_a_time(self):
        """If one part of a time grew, the text shows the growth of the whole time."""
        lines = text(case(estimated(memory=500), estimated(), hold=COMPARED))
        assert lines[0] == "time[A100] regressed: at least 1.4 us -> 1.6 us, +200 ns (+14.3%) (estimate)"
        start = lines.index("what changed in time[A100], by module:")
        assert lines[start + 1] == "    head: Linear, +200 ns"
        assert not any("memory_time" in line for line in lines)

    def test_a_ratio(self):
        """If a ratio is below its minimum, the text shows how many percent are missing."""
        one = net({"flops": 82, "other_flops": 0, "memory_traffic": 10})
        lines = text(case(one, one, budget("here", {"arithmetic_intensity": 10})))
        assert lines == [
            "arithmetic_intensity under its limit: 8.2 FLOPs/byte < 10 FLOPs/byte (-18.0%)",
            "    limit set by here",
        ]

    def test_a_peak(self):
        """If the peak is over its limit, the text shows which memory is alive at the peak."""
        lines = text(case(peaking(3 * 2**20), peaking(2**20), budget("here", {"peak_memory": 2**21}), hold=COMPARED))
        assert lines[:4] == [
            "peak_memory over its limit: 3 MiB > 2 MiB, +1 MiB (+50.0%)",
            "    limit set by here",
            "peak_memory regressed: 1 MiB -> 3 MiB, +2 MiB (+200.0%)",
            "peak 3 MiB in stem (aten.convolution): 3 MiB activations",
        ]

    def test_depth(self):
        lines = text(case(net({"flops": 1}, depth=12), None, budget("here", {"depth": 10})))
        assert lines[0] == "depth over its limit: 12 > 10, +2 steps in depth (+20.0%)"

    def test_a_latency_that_was_not_measured(self):
        """If a watched test has a limit on latency, the text says how to have the latency measured."""
        assert (
            "latency has a limit, but a watched model is not timed: call flops_budget(model, inputs) of the fixture"
            in text(case(complexity(), None, budget("here", {"latency": 1})))
        )

    def test_an_uneven_latency_of_a_test_that_fails_otherwise(self):
        lines = text(case(timed(10, 9), None, budget("here", {"latency": 1, "flops": 1})))
        assert not any("over its limit" in line for line in lines if line.startswith("latency"))
        assert any(line.startswith("latency not judged: its spread, 90.0%") for line in lines)


@pytest.mark.parametrize(
    ("path", "written"),
    [
        *((path, path) for path in ("x.", ".x", ".", "..", "x..y", "two words", "é")),
        *(("{0-1}", "\\{0-1}"), ("\\{0}", "\\\\{0}")),  # the text of a folded path marks such names
    ],
)
def test_unusual_names_of_modules(path, written):
    """The failure names the module with the most FLOPs, even if the name of the module is unusual."""
    measured = complexity({"": ("Net", "", 0), path: ("Linear", "4->10", 20)})
    lines = text(case(measured, None, budget("here", {"flops": 3})))
    assert f"    {written}: Linear 4->10, 2 kFLOPs" in lines
