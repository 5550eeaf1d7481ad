"""The text of a failing test."""

from __future__ import annotations

from fractions import Fraction

import pytest
from budgets import budget
from msgspec.structs import replace
from timed import estimated, net, peaking, timed

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.quantities.bounds import Bounds
from pytest_flopsbudget.quantities.metrics import COMPARED
from pytest_flopsbudget.quantities.tolerance import Tolerance
from pytest_flopsbudget.reports.causes import ShownCauses
from pytest_flopsbudget.reports.failure import explain
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module, Operator, UnknownOperator
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


def metrics(**values):
    """Build a model of one module from its metrics."""
    return Complexity(
        model="Net",
        inputs=("float32[1]",),
        execution="shapes",
        metrics={"flops": 100} | values,
        modules={"": Module(type="Net", calls=1, metrics={"flops": 100} | values)},
    )


def case(new, old=None, *budgets, name="model", times=1, **settings):
    """Judge a measurement against a baseline and budgets, and return the verdict."""
    measurement = Measurement(name=name, complexity=new, times=times)
    return judge(measurement, budgets, Settings(**settings), old, accepts=False)


def text(*cases):
    return explain("test_net.py::test_net", cases).splitlines()


def words(*cases):
    """Return the lines of a failure with one blank between two words."""
    return [" ".join(line.split()) for line in text(*cases)]


def modules_table(*what, metric="flops"):
    """Return the rows of the table of changed modules. ``what`` are the arguments of `case`."""
    lines = words(case(*what))
    start = next(number for number, line in enumerate(lines) if line.startswith(metric) and line.endswith("module"))
    return [line for line in lines[start + 1 :] if not line.startswith("to accept")]


def edits(*what):
    """Return the lines on edited modules, which follow the first line."""
    lines = text(case(*what))[1:]
    return [line.strip() for line in lines[: next(n for n, line in enumerate(lines) if line.split()[0] == "metric")]]


def test_nothing_is_wrong():
    assert text(case(complexity(), complexity(), budget("here", {"flops": 2500}))) == []


class TestLimits:
    def test_measured_limit_excess(self):
        """A broken limit is shown with the value, the limit and the excess, and with the largest modules."""
        lines = text(case(complexity(), complexity(), budget("here", {"flops": 2000})))
        assert lines == [
            "flops +25.0% over its limit in test_net",
            "  metric      before         now  change   allowed  set by",
            "  flops   2.5 kFLOPs  2.5 kFLOPs      0%  2 kFLOPs  here",
            "      flops  module",
            "   2 kFLOPs  stem: Conv2d(3->4, 3x3)",
            "  500 FLOPs  head: Linear(4->10)",
        ]

    def test_without_a_baseline(self):
        """If there is no baseline, the column after the value shows the excess over the limit."""
        lines = words(case(complexity(), None, budget("here", {"flops": 2000, "params": 24})))
        assert lines[:4] == [
            "flops +25.0% over its limit in test_net",
            "metric now over allowed set by",
            "flops 2.5 kFLOPs +25.0% 2 kFLOPs here",
            "params 25 +4.2% 24 here",
        ]
        assert lines[4:] == [
            "flops params module",
            "2 kFLOPs 20 stem: Conv2d(3->4, 3x3)",
            "500 FLOPs 5 head: Linear(4->10)",
        ]

    @pytest.mark.parametrize(
        ("source", "who"),
        [
            ("@pytest.mark.flops_budget on test_net.py::test_net", "marker"),
            ("@pytest.mark.flops_budget on sub/test_net.py::test_net", "marker"),
            ("@pytest.mark.flops_budget on test_net.py::TestNet", "marker on TestNet"),
            ("@pytest.mark.flops_budget on tests/test_net.py", "marker on test_net.py"),
            ("pyproject.toml, [[tool.pytest-flopsbudget.budgets]] 2", "pyproject budgets 2"),
            ("pyproject.toml, [tool.pytest-flopsbudget.limits]", "pyproject limits"),
            ("sub/pyproject.toml, [tool.pytest-flopsbudget.limits]", "sub/pyproject.toml limits"),
        ],
    )
    def test_who_set_the_limit(self, source, who):
        assert words(case(complexity(), None, budget(source, {"flops": 2000})))[2].endswith(f" 2 kFLOPs {who}")

    def test_of_a_module(self):
        lines = words(case(complexity(), None, budget("here", modules={"st*": {"params": 4}})))
        assert lines == [
            "params of stem +400.0% over its limit in test_net",
            "metric now over allowed set by",
            "params of stem 20 +400.0% 4 here",
        ]

    def test_of_many_modules(self):
        """If several modules break the limit of one pattern, one block has a row for each. The worst is first."""
        blocks = {f"blocks.{i}": ("Linear", "2->2", 10 + i) for i in range(9)}
        limited = budget("here", modules={"blocks*": {"params": 5}})
        lines = words(case(complexity({"": ("Net", "", 0)} | blocks), None, limited))
        assert lines[:4] == [
            'params of 9 modules "blocks*" over their limit in test_net',
            'params of modules "blocks*", allowed 5, set by here:',
            "now over module",
            "18 +260.0% blocks.8",
        ]
        assert len(lines) == 3 + 9
        assert lines[-1] == "10 +100.0% blocks.0"

    def test_many_rows_of_modules_are_counted(self):
        blocks = {f"blocks.{i}": ("Linear", "2->2", 10) for i in range(20)}
        limited = budget("here", modules={"blocks*": {"params": 5}})
        lines = words(case(complexity({"": ("Net", "", 0)} | blocks), None, limited))
        assert lines[-1] == "and 8 more"

    def test_a_limit_of_nothing(self):
        """There is no percentage over a limit of 0, so the table has no column for it."""
        lines = words(case(complexity(), None, budget("here", {"params": 0})))
        assert lines[0] == "params 25 over its limit of 0 in test_net"
        assert lines[1:3] == ["metric now allowed set by", "params 25 0 here"]

    def test_numbers_that_print_alike(self):
        """If the short forms of value and limit are equal, both are shown in full."""
        new = complexity({"": ("Net", "", 1_000_002)})
        lines = words(case(new, None, budget("here", {"params": 1_000_001})))
        assert lines[0] == "params <0.01% over its limit in test_net"
        assert lines[2] == "params 1,000,002 <0.01% 1,000,001 here"

    @pytest.mark.parametrize(
        ("limits", "first", "row"),
        [
            (
                {"params": Bounds(minimum=50)},
                "params 50.0% under its minimum in test_net",
                "params 25 -50.0% min 50 here",
            ),
            (
                {"params": Bounds(minimum=20, maximum=20)},
                "params +25.0% off its exact value in test_net",
                "params 25 +25.0% exactly 20 here",
            ),
            (
                {"params": Bounds(maximum=Fraction(3), share_of="head")},
                "params +66.7% over its limit in test_net",
                "params 25 +66.7% 15 (300% of head) here",
            ),
        ],
        ids=["minimum", "exact", "share"],
    )
    def test_kinds_of_limits(self, limits, first, row):
        lines = words(case(complexity(), None, budget("here", limits)))
        assert (lines[0], lines[2]) == (first, row)

    def test_of_an_operator(self):
        one = replace(complexity(), operators={"aten.mm": Operator(calls=1, metrics={"flops": 500})})
        lines = words(case(one, None, budget("here", operators={"aten.mm": {"flops": 400}})))
        assert lines[0] == "flops of aten.mm +25.0% over its limit in test_net"
        assert lines[2] == "flops of aten.mm 500 FLOPs +25.0% 400 FLOPs here"

    def test_a_metric_that_was_not_measured(self):
        lines = text(case(complexity(), None, budget("here", {"buffer_bytes": 1})))
        assert lines == [
            "test_net: buffer_bytes has a limit, but was not measured",
            "  buffer_bytes has a limit, but was not measured (set by here)",
        ]

    def test_a_phase_that_was_not_measured(self):
        lines = text(case(complexity(), None, budget("here", phases={"backward": {"flops": 1}})))
        assert lines[0] == (
            "test_net: flops of the backward phase has a limit, but no backward pass was measured: "
            "call flops_budget(model, inputs, backward=True)"
        )

    def test_a_pattern_that_matches_nothing(self):
        lines = text(case(complexity(), None, budget("here", modules={"heat": {"params": 4}})))
        assert lines == [
            "test_net: modules: no module of Net matches 'heat'",
            "  modules: no module of Net matches 'heat'; near names: head (set by here)",
            "  its modules: head, stem",
        ]

    def test_many_modules_that_a_pattern_misses(self):
        """The list of modules begins with near names, then with the modules nearest to the root, and is cut."""
        modules = {"": ("Net", "", 0), "net": ("Net", "", 0)}
        modules |= {f"net.{name}": ("Linear", "2->2", 1 + place) for place, name in enumerate("abcdefghijklmnop")}
        modules |= {"net.a.attn": ("Linear", "2->2", 3)}
        lines = words(case(complexity(modules), None, budget("here", modules={"attn": {"params": 4}})))
        assert lines[1].endswith("; near names: net.a.attn (set by here)")
        assert lines[2] == (
            "its modules: net.a.attn, net, net.a, net.b, net.c, net.d, net.e, net.f, net.g, net.h, net.i, net.j "
            "and 6 more"
        )


class TestBaseline:
    def test_growth(self):
        """One edited module: the sentence, the edit, a row for each broken metric, and how to accept."""
        lines = text(case(complexity(GROWN), complexity()))
        assert lines == [
            "flops +120.0% over its baseline by stem in test_net",
            "  stem: Conv2d(3->4, 3x3) -> Conv2d(3->4, 5x5)",
            "  metric      before         now   change    allowed  set by",
            "  flops   2.5 kFLOPs  5.5 kFLOPs  +120.0%  no growth  baseline",
            "  params          25          55  +120.0%  no growth  baseline",
            "to accept: pytest --flops-budget-update test_net.py::test_net",
        ]

    def test_what_is_tolerated(self):
        tolerance = {"flops": Tolerance(relative=Fraction(1, 10)), "params": Tolerance(absolute=5)}
        lines = words(case(complexity(GROWN), complexity(), tolerance=tolerance))
        assert lines[3:5] == [
            "flops 2.5 kFLOPs 5.5 kFLOPs +120.0% +10.0% baseline",
            "params 25 55 +120.0% +20.0% baseline",
        ]

    def test_metrics_that_merely_follow(self):
        """Bytes that grew like the parameters have no row, and bytes that grew otherwise have one."""
        old = metrics(params=25, trainable_params=25, param_bytes=100)
        like = words(case(metrics(params=50, trainable_params=50, param_bytes=200), old))
        assert [line.split()[0] for line in like[1:-1]] == ["metric", "params"]
        other = words(case(metrics(params=50, trainable_params=50, param_bytes=400), old))
        assert [line.split()[0] for line in other[1:-1]] == ["metric", "params", "param_bytes"]
        alone = words(case(metrics(params=25, trainable_params=25, param_bytes=200), old))
        assert alone[0] == "param_bytes +100.0% over its baseline in test_net"

    def test_only_what_fails_is_shown(self):
        """A model with fewer FLOPs and more parameters fails for its parameters."""
        new = complexity({"": ("Net", "", 0), "stem": ("Conv2d", "3->4, 3x3", 27)})
        old = complexity({"": ("Net", "", 0), "stem": ("Conv2d", "3->4, 3x3", 25)})
        new = replace(new, metrics=new.metrics | {"flops": 600})
        lines = words(case(new, old))
        assert lines[0] == "params +8.0% over its baseline by stem in test_net"
        assert not any(line.startswith("flops") for line in lines)

    def test_everything_with_v(self):
        lines = explain("test_net.py::test_net", [case(complexity(GROWN), complexity())], verbose=True).splitlines()
        assert "flops: 2.5 kFLOPs -> 5.5 kFLOPs, +3 kFLOPs (+120.0%)" in lines
        start = lines.index("what changed in flops, by module:")
        assert lines[start + 1] == "    stem: Conv2d 3x3 -> 5x5, +3 kFLOPs"

    def test_largest_first(self):
        new = GROWN | {"head": ("Linear", "4->80", 40)}
        assert [line.partition(":")[0] for line in edits(complexity(new), complexity())] == ["head", "stem"]
        assert modules_table(complexity(new), complexity()) == ["+3.5 kFLOPs +35 head", "+3 kFLOPs +30 stem"]
        assert text(case(complexity(new), complexity()))[0].endswith(" by head and 1 more in test_net")

    def test_the_first_line_names_the_module_behind_its_metric(self):
        """The convolution has most of the new FLOPs. The head has most of the new parameters, which grew faster."""

        def net(stem, head):
            both = {metric: stem[1][metric] + head[1][metric] for metric in ("flops", "params")}
            parts = {"": ("Net", "", both), "stem": ("Conv2d", *stem), "head": ("Linear", *head)}
            modules = {path: Module(type=one[0], shape=one[1], calls=1, metrics=one[2]) for path, one in parts.items()}
            return replace(complexity(), modules=modules, metrics=both)

        old = net(("3->4, 3x3", {"flops": 900, "params": 50}), ("4->10", {"flops": 100, "params": 50}))
        new = net(("3->4, 5x5", {"flops": 1_900, "params": 140}), ("4->12", {"flops": 100, "params": 160}))
        lines = text(case(new, old))
        assert lines[0] == "params +200.0% over its baseline by head and 1 more in test_net"
        assert lines[1].startswith("  stem: ")

    @pytest.mark.parametrize(
        ("new", "line"),
        [
            (SMALL | {"head": ("Bilinear", "4->10", 9)}, "head: Linear(4->10) -> Bilinear(4->10)"),
            (SMALL | {"tail": ("Linear", "10->2", 9)}, "tail: new Linear(10->2)"),
            (SMALL | {"head": ("Linear", "4->10", 9)}, "head: Linear(4->10), settings unchanged"),
            (SMALL | {"": ("Net", "token 3", 3)}, "the model itself: Net -> Net(token 3)"),
        ],
        ids=["class", "new", "own", "root"],
    )
    def test_what_became_of_a_module(self, new, line):
        assert edits(complexity(new), complexity()) == [line]

    def test_a_removed_module(self):
        new = {path: fields for path, fields in GROWN.items() if path != "head"}
        assert edits(complexity(new), complexity())[-1] == "head: removed Linear(4->10)"
        assert modules_table(complexity(new), complexity())[-1] == "-500 FLOPs -5 head"

    def test_equal_layers_at_once(self):
        old = {"": ("Net", "", 0)} | {f"layers.{i}": ("Linear", "2->2", 4) for i in range(8)}
        new = {"": ("Net", "", 0)} | {f"layers.{i}": ("Linear", "2->3", 6) for i in range(8)}
        assert edits(complexity(new), complexity(old)) == ["layers.{0-7} (x8): Linear(2->2) -> Linear(2->3)"]

    def test_many_rows_are_summed_up(self):
        """If more than five modules changed, the smallest changes share one line."""
        old = {"": ("Net", "", 0)} | {f"m{i}": ("Linear", f"{i}", 100) for i in range(1, 10)}
        new = {"": ("Net", "", 0)} | {f"m{i}": ("Linear", f"{i}0", 100 + i) for i in range(1, 10)}
        assert modules_table(complexity(new), complexity(old)) == [
            "+900 FLOPs +9 m9",
            "+800 FLOPs +8 m8",
            "+700 FLOPs +7 m7",
            "+600 FLOPs +6 m6",
            "+500 FLOPs +5 m5",
            # 100 · (1 + 2 + 3 + 4)
            "+1 kFLOPs +10 and 4 more modules",
        ]
        assert edits(complexity(new), complexity(old))[-1] == "and 4 more edited modules"

    def test_operators(self):
        """If no module is known, the operators show what changed. The largest growth is first."""
        old = replace(complexity(), operators={"aten.mm": Operator(calls=1, metrics={"flops": 500})}, modules={})
        operators = {
            "aten.mm": Operator(calls=2, metrics={"flops": 600}),
            "aten.convolution": Operator(calls=1, metrics={"flops": 2000}),
        }
        new = replace(complexity(GROWN), operators=operators, modules={})
        lines = text(case(new, old))
        assert lines[4:6] == ["    aten.convolution: +2 kFLOPs, calls 0 -> 1", "    aten.mm: +100 FLOPs, calls 1 -> 2"]

    def test_another_input(self):
        """Another input is named first, and no module is blamed for it."""
        new = complexity(SMALL | {"head": ("Linear", "4->10", 9)}, inputs=("float32[2, 8]", "int64[2]"))
        old = complexity(inputs=("float32[1, 8]", "int64[2]"))
        lines = text(case(new, old))
        # 2,900 FLOPs instead of 2,500.
        assert lines[0] == "another input, float32[1, 8] -> float32[2, 8]: flops +16.0% over its baseline in test_net"
        assert lines[1].split()[0] == "metric"

    def test_another_input_and_an_edit(self):
        lines = text(case(complexity(GROWN, inputs=("float32[2]",)), complexity()))
        assert lines[0] == (
            "another input, float32[1] -> float32[2]: flops +120.0% over its baseline by stem in test_net"
        )
        assert lines[1] == "  stem: Conv2d(3->4, 3x3) -> Conv2d(3->4, 5x5)"

    def test_what_differs_in_how_it_ran(self):
        """Other differences from the baseline are named before the edits."""
        new = complexity(GROWN, execution="real", backward=True)
        old = complexity(metrics=complexity().metrics | {"param_bytes": 100})
        lines = text(case(new, old))
        assert lines[1:4] == [
            "the baseline was measured on shapes alone, this on real data",
            "the baseline was measured without the backward pass, this with it",
            "param_bytes is in the baseline and was not measured now",
        ]

    def test_a_limit_and_growth(self):
        """If a limit is broken and the baseline too, one row shows both. The first line names the limit."""
        lines = words(case(complexity(GROWN), complexity(), budget("here", {"flops": 3000})))
        assert lines[0] == "flops +83.3% over its limit by stem in test_net"
        assert lines[3:5] == [
            "flops 2.5 kFLOPs 5.5 kFLOPs +120.0% 3 kFLOPs here, baseline",
            "params 25 55 +120.0% no growth baseline",
        ]
        assert lines[-1].startswith("to accept, once the limits allow it:")


class TestShownBefore:
    """Failures with a cause that an earlier test has shown."""

    def both(self, first, second, **fields):
        shown = ShownCauses()
        explain("a.py::first", [first], shown=shown)
        return explain("b.py::second", [second], shown=shown, **fields).splitlines()

    def test_two_lines(self):
        """Layers of another width at another place have the same cause if one setting changed in the same way."""
        old = {"": ("Net", "", 0), "model.stem": ("Conv2d", "8->8, 3x3", 70)}
        new = {"": ("Net", "", 0), "model.stem": ("Conv2d", "8->8, 5x5", 190)}
        lines = self.both(case(complexity(GROWN), complexity()), case(complexity(new), complexity(old)))
        assert lines == [
            # 190 / 70 - 1 is 171.4%.
            "flops +171.4% over its baseline by model.stem in second",
            "  the change that a.py::first shows: Conv2d 3x3 -> 5x5",
        ]

    @pytest.mark.parametrize(
        ("stem", "budgets"),
        [
            (("Conv2d", "3->4, 7x7", 90), ()),
            (("Conv1d", "3->4, 5x5", 50), ()),
            (("Conv2d", "3->8, 5x5", 90), ()),
            (("Conv2d", "3->4, 5x5", 50), (budget("here", modules={"sten": {"flops": 1}}),)),
            (("Conv2d", "3->4, 5x5", 50), (budget("here", {"latency": 1}),)),
        ],
        ids=["other setting", "other class", "one more setting", "no module", "not timed"],
    )
    def test_another_cause_is_shown(self, stem, budgets):
        first = case(complexity(GROWN), complexity())
        lines = self.both(first, case(complexity(SMALL | {"stem": stem}), complexity(), *budgets))
        assert any(line.startswith("  metric") for line in lines)

    def test_a_metric_that_the_earlier_test_does_not_break(self):
        """FLOPs grow from 2,500 to 5,500; in the second test, activations grow from 16 to 20 too."""
        first = case(complexity(GROWN), complexity())
        before, after = ({"flops": 2500, "params": 25, "activations": 16}, {"flops": 5500, "params": 55})
        second = case(complexity(GROWN, metrics=after | {"activations": 20}), complexity(metrics=before))
        assert self.both(first, second) == [
            "flops +120.0% over its baseline by stem in second",
            "  the change that a.py::first shows: Conv2d 3x3 -> 5x5; here also activations +25.0%",
        ]
        # The earlier test shows everything that this one breaks.
        assert self.both(second, first)[1:] == ["  the change that a.py::first shows: Conv2d 3x3 -> 5x5"]

    def test_a_limit_that_the_earlier_test_does_not_break(self):
        first = case(complexity(GROWN), complexity())
        limit = budget("here", modules={"stem": {"params": 40}})
        assert self.both(first, case(complexity(GROWN), complexity(), limit)) == [
            "params of stem +25.0% over its limit by stem in second",
            "  the change that a.py::first shows: Conv2d 3x3 -> 5x5",
            "  metric          now    over  allowed  set by",
            "  params of stem   50  +25.0%       40  here",
        ]

    def test_in_full_with_v(self):
        one = case(complexity(GROWN), complexity())
        assert any(line.startswith("  metric") for line in self.both(one, one, verbose=True))

    def test_a_limit_is_no_common_cause(self):
        """If nothing changed, each test shows where its cost is."""
        one = case(complexity(), None, budget("here", {"flops": 1}))
        assert any(line.endswith("module") for line in self.both(one, one))


class TestReactions:
    def test_missing_baseline(self):
        assert text(case(complexity(), missing_baseline="fail")) == [
            'test_net has no baseline, and missing-baseline = "fail"',
            "to accept: pytest --flops-budget-update test_net.py::test_net",
        ]

    def test_improved_baseline(self):
        lines = text(case(complexity(), complexity(GROWN), improved_baseline="fail"))
        assert lines == [
            'test_net improved, and improved-baseline = "fail": flops 5.5 kFLOPs -> 2.5 kFLOPs, -3 kFLOPs (-54.5%)',
            "  stem: Conv2d(3->4, 5x5) -> Conv2d(3->4, 3x3)",
            "to accept: pytest --flops-budget-update test_net.py::test_net",
        ]

    def test_unknown_operators(self):
        """If an operator is unknown, the text shows the modules that called it."""
        unknown = {
            "mine.op": UnknownOperator(calls=1, modules=("",)),
            "mine.op2": UnknownOperator(calls=9, modules=tuple("abcd")),
        }
        lines = text(case(complexity(unknown_operators=unknown), complexity(), unknown_operators="fail"))
        assert lines[:3] == [
            'test_net runs operators without a formula, and unknown-operators = "fail"',
            "    mine.op: 1 call in Net",
            "    mine.op2: 9 calls in a, b, c, ...",
        ]
        assert '    @flops_formula("mine::op")' in lines
        assert not any("--flops-budget-update" in line for line in lines)


class TestSeveral:
    def test_each_failing_one_is_told(self):
        """The text names only measurements that fail."""
        limit = budget("here", {"params": 24})
        lines = text(
            case(complexity(), complexity(), limit, name="student"),
            case(complexity({"": ("Net", "", 1)}), None, limit, name="fine"),
            case(complexity(GROWN), complexity(), limit, name="teacher"),
        )
        assert lines[0] == "params +4.2% over its limit in test_net student"
        second = lines.index("") + 1
        assert lines[second] == "params +129.2% over its limit by stem in test_net teacher"
        assert not any("fine" in line for line in lines)
        assert sum("to accept" in line for line in lines) == 1

    def test_the_largest_of_many(self):
        lines = text(case(complexity(), complexity(), budget("here", {"params": 24}), times=1200))
        assert "  the largest of 1,200 measurements" in lines

    def test_a_node_id_with_blanks_is_quoted(self):
        verdict = case(complexity(), missing_baseline="fail")
        assert explain("a.py::t[x y]", [verdict]).endswith("--flops-budget-update 'a.py::t[x y]'")


class TestBeyondWork:
    """Failures of metrics that are estimates, ratios, peaks or latencies."""

    def test_a_time(self):
        """If an estimated time is over its limit, the text says that the time is a lower bound."""
        lines = words(case(estimated(), estimated(), budget("here", {"time[A100]": 1000})))
        assert lines == [
            "time[A100] at least +40.0% over its limit in test_net",
            "metric before now change allowed set by",
            "time[A100] >=1.4 us >=1.4 us 0% 1 us here",
            "time[A100] module",
            ">=1 us stem: Conv2d(3->4, 3x3)",
            ">=400 ns head: Linear(4->10)",
            "A100: at least 1.4 us (estimate), compute-bound (compute 900 ns, memory 300 ns, launches 200 ns)",
        ]

    def test_growth_of_a_time(self):
        """If one part of a time grew, the text shows the growth of the whole time."""
        lines = words(case(estimated(memory=500), estimated(), hold=COMPARED))
        assert lines[0] == "time[A100] at least +14.3% over its baseline by head in test_net"
        assert lines[1] == "head: Linear(4->10), settings unchanged"
        assert lines[3] == "time[A100] >=1.4 us >=1.6 us +14.3% no growth baseline"
        assert not any("memory_time" in line for line in lines)

    def test_a_ratio(self):
        """If a ratio is below its minimum, the text shows how many percent are missing."""
        one = net({"flops": 82, "other_flops": 0, "memory_traffic": 10})
        lines = words(case(one, None, budget("here", {"arithmetic_intensity": 10})))
        assert lines == [
            "arithmetic_intensity 18.0% under its minimum in test_net",
            "metric now off allowed set by",
            "arithmetic_intensity 8.2 FLOPs/byte -18.0% min 10 FLOPs/byte here",
        ]

    def test_a_peak(self):
        """If the peak is over its limit, the text shows which memory is alive at the peak."""
        lines = words(case(peaking(3 * 2**20), peaking(2**20), budget("here", {"peak_memory": 2**21}), hold=COMPARED))
        assert lines[:4] == [
            "peak_memory +50.0% over its limit in test_net",
            "metric before now change allowed set by",
            "peak_memory 1 MiB 3 MiB +200.0% 2 MiB here, baseline",
            "peak 3 MiB in stem (aten.convolution): 3 MiB activations",
        ]

    def test_what_is_alive_adds_up_to_the_peak(self):
        """The kinds of memory add up to the peak, and no list of modules contradicts them."""
        one = peaking(5 * 2**20, parameters=3 * 2**20, activations=2 * 2**20)
        lines = words(case(one, one, budget("here", {"peak_memory": 2**21})))
        assert lines[3:] == ["peak 5 MiB in stem (aten.convolution): 3 MiB parameters, 2 MiB activations"]

    def test_depth(self):
        lines = words(case(net({"flops": 1}, depth=12), None, budget("here", {"depth": 10})))
        assert lines == [
            "depth +20.0% over its limit in test_net",
            "metric now over allowed set by",
            "depth 12 +20.0% 10 here",
        ]

    def test_a_latency_that_was_not_measured(self):
        """If a watched test has a limit on latency, the text says how to have the latency measured."""
        assert text(case(complexity(), None, budget("here", {"latency": 1})))[0] == (
            "test_net: latency has a limit, but was not timed: only flops_budget(model, inputs) of the fixture times a "
            "model"
        )

    def test_an_uneven_latency_of_a_test_that_fails_otherwise(self):
        lines = text(case(timed(10, 9), None, budget("here", {"latency": 1, "flops": 1})))
        assert not any(line.strip().startswith("latency[") for line in lines)
        assert any(line.startswith("latency not judged: its spread, 90.0%") for line in lines)


def test_is_ascii():
    """The text has only signs of ASCII. The plugin replaces some of them if the terminal can show others."""
    assert "\n".join(text(case(complexity(GROWN), complexity(), budget("here", {"flops": 1})))).isascii()


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
    assert f"  2 kFLOPs  {written}: Linear(4->10)" in lines
