"""Changed measurements in the terminal and in Markdown."""

import pytest
from msgspec.structs import replace
from samples import linear

from pytest_flopsbudget.reports.markdown import changes as in_markdown
from pytest_flopsbudget.reports.terminal import changes as in_terminal
from pytest_flopsbudget.reports.terminal.screen import Screen
from pytest_flopsbudget.results.changes import Key, changes
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module, Operator
from pytest_flopsbudget.safe_text import use_signs


def side(**tests):
    """Return one side of a comparison: the measurements of tests in ``a.py``."""
    return {Key(f"a.py::{name}", "model"): entry for name, entry in tests.items()}


def shown(old, new, width=100, encoding="ascii", *, verbose=False, colour=False):
    screen = Screen(width=width, colour=colour, encoding=encoding)
    return list(in_terminal.lines(changes(old, new), screen, verbose=verbose))


def conv(width, kernel, *, blocks=2, metrics=None):
    """Build a model of equal convolutions on 8x8 pixels, without biases."""
    params = width * width * kernel * kernel
    own = {"flops": 2 * 64 * params, "params": params, "trainable_params": params, "param_bytes": 4 * params}
    total = {key: blocks * value for key, value in own.items()}
    module = Module(type="Conv2d", shape=f"{width}->{width}, {kernel}x{kernel}", calls=1, metrics=own)
    return Complexity(
        model="Net",
        inputs=(f"float32[1, {width}, 8, 8]",),
        execution="shapes",
        metrics=total | (metrics or {}),
        modules={"": Module(type="Net", calls=1, metrics=total)} | {f"blocks.{i}.conv": module for i in range(blocks)},
        operators={"aten.convolution": Operator(calls=blocks, metrics={"flops": total["flops"]})},
    )


def parameters(number):
    return {"params": number, "trainable_params": number, "param_bytes": 4 * number}


class TestOneMeasurement:
    def test_a_regression(self):
        # From 2·2·4² = 64 to 2·2·5² = 100 FLOPs, and from 20 to 30 parameters. Their bytes follow, and have no row.
        assert shown(side(t=linear(4), u=linear(6)), side(t=linear(5), u=linear(6))) == [
            "a.py::t: regressed",
            "  another input: float32[2, 4] -> float32[2, 5]",
            "  layer: Linear(4->4) -> Linear(5->5)",
            "  metric    before        now  change",
            "  flops   64 FLOPs  100 FLOPs  +56.2%",
            "  params        20         30  +50.0%",
            "",
            "2 measurements: 1 regressed, 1 unchanged",
        ]

    def test_equal_siblings_are_one_edit(self):
        # Two convolutions of 4 to 4 channels: 2·16·9 = 288 → 2·16·25 = 800 parameters, 2·64 FLOPs for each.
        lines = shown(side(t=conv(4, 3)), side(t=conv(4, 5)))
        assert lines[1] == "  blocks.{0-1}.conv (x2): Conv2d(4->4, 3x3) -> Conv2d(4->4, 5x5)"
        assert lines[3].split() == ["flops", "36.86", "kFLOPs", "102.4", "kFLOPs", "+177.8%"]
        assert lines[4].split() == ["params", "288", "800", "+177.8%"]
        # The only edit made the whole change: no table repeats the module.
        assert lines[5:] == ["", "1 measurement: 1 regressed"]

    def test_an_improvement(self):
        lines = shown(side(t=conv(4, 5)), side(t=conv(4, 3)))
        assert lines[0] == "a.py::t: improved"
        assert lines[1] == "  blocks.{0-1}.conv (x2): Conv2d(4->4, 5x5) -> Conv2d(4->4, 3x3)"
        assert lines[4].split() == ["params", "800", "288", "-64.0%"]

    def test_several_edits_have_a_table_of_modules(self):
        """Both models have a convolution of 3x3. One convolution became 5x5, and one was added."""
        wide, new = conv(4, 5).modules["blocks.0.conv"], conv(4, 3).modules["blocks.1.conv"]
        old, grown = conv(4, 3, blocks=1), conv(4, 3, blocks=1)
        metrics = {key: wide.metrics[key] + new.metrics[key] for key in wide.metrics}
        root = Module(type="Net", calls=1, metrics=metrics)
        grown = replace(
            grown, metrics=metrics, modules={"": root, "blocks.0.conv": wide, "tail": replace(new, type="Tail")}
        )
        lines = shown(side(t=old), side(t=grown))
        assert set(lines[1:3]) == {
            "  blocks.0.conv: Conv2d(4->4, 3x3) -> Conv2d(4->4, 5x5)",
            "  tail: new Tail(4->4, 3x3)",
        }
        table = [line.split() for line in lines[6:9]]
        # 5x5 for 3x3: 16·(25 - 9) = 256 parameters. The new module has 16·9 = 144. Each has 2·64 FLOPs.
        assert table == [
            ["flops", "params", "module"],
            ["+32.77", "kFLOPs", "+256", "blocks.0.conv"],
            ["+18.43", "kFLOPs", "+144", "tail"],
        ]

    def test_operators_only_if_verbose(self):
        old, new = side(t=conv(4, 3)), side(t=conv(4, 5))
        assert "aten.convolution" not in "".join(shown(old, new))
        lines = shown(old, new, verbose=True)
        # (102,400 - 36,864) FLOPs.
        assert "      aten.convolution: +65.54 kFLOPs" in lines
        assert [line.split()[0] for line in lines[3:7]] == ["flops", "params", "trainable_params", "param_bytes"]

    def test_only_operators_changed(self):
        """If no module explains the change, the operators are listed without being asked for."""
        old = replace(linear(4), modules={})
        new = replace(linear(4, batch=3), modules={}, inputs=old.inputs)
        assert "    aten.mm: +32 FLOPs" in shown(side(t=old), side(t=new))

    @pytest.mark.parametrize(
        ("changed", "line"),
        [
            ({"inputs": ("float16[2, 4]",)}, "  another input: float32[2, 4] -> float16[2, 4]"),
            ({"execution": "real"}, "  ran on shapes alone, then on real data"),
            ({"backward": True}, "  measured without the backward pass, then with"),
            ({"metrics": {"flops": 64}}, "  params is no longer measured"),
        ],
    )
    def test_another_run(self, changed, line):
        lines = shown(side(t=linear(4)), side(t=replace(linear(4), **changed)))
        assert lines[:2] == ["a.py::t: changed", line]

    def test_another_pytorch(self):
        old, new = (
            replace(conv(4, 3, metrics={"launches": launches}), pytorch=pytorch)
            for launches, pytorch in ((2, "2.13"), (3, "2.14"))
        )
        lines = shown(side(t=old), side(t=new))
        assert lines[:2] == ["a.py::t: changed", "  measured with PyTorch 2.13, then 2.14"]
        assert lines[3].split() == ["launches", "2", "3", "+50.0%", "(not", "held)"]

    def test_a_metric_that_no_table_of_measurements_shows(self):
        other = linear(4)
        buffers = replace(other, metrics=other.metrics | {"buffer_bytes": 8})
        bigger = replace(other, metrics=other.metrics | {"buffer_bytes": 9})
        lines = shown(side(t=buffers), side(t=bigger))
        assert lines[2].split() == ["buffer_bytes", "8", "B", "9", "B", "+12.5%"]

    @pytest.mark.parametrize(
        "metrics",
        [
            {"peak_memory": (8, 9)},
            {"launches": (8, 9), "depth": (3, 4)},
            {"peak_memory": (8, 9), "buffer_bytes": (8, 9)},
        ],
    )
    def test_metrics_that_are_not_held(self, metrics):
        """Metrics that a baseline does not hold by default are marked, and a line explains the mark."""
        old, new = (
            replace(linear(4), metrics=linear(4).metrics | {key: values[index] for key, values in metrics.items()})
            for index in range(2)
        )
        lines = shown(side(t=old), side(t=new))
        marked = [line.split()[0] for line in lines if line.endswith(" (not held)")]
        assert set(marked) == metrics.keys() - {"buffer_bytes"}
        assert sum(line.startswith("(not held): growth of this metric fails no test") for line in lines) == 1
        assert lines[-1] == "1 measurement: 1 regressed"
        text = in_markdown.text(changes(side(t=old), side(t=new)), "main", "HEAD")
        assert "1 measurement: 1 regressed.\n\n(not held): growth of this metric fails no test" in text

    def test_emphasis(self):
        lines = shown(side(t=conv(4, 3)), side(t=conv(4, 5)), colour=True)
        assert lines[0] == "\x1b[1ma.py::t: regressed\x1b[0m"
        assert lines[1].startswith("  \x1b[1mblocks.{0-1}.conv (x2)\x1b[0m: ")
        assert lines[3].endswith("  \x1b[31m+177.8%\x1b[0m")


class TestSeveralMeasurements:
    def test_one_cause_is_described_once(self):
        """In models of two widths, kernels of 3x3 became 5x5, so FLOPs and parameters are multiplied by 25/9."""
        old, new = (side(t=conv(4, kernel), u=conv(8, kernel)) for kernel in (3, 5))
        lines = shown(old, new)
        assert lines[:2] == ["Conv2d 3x3 -> 5x5 in blocks.*.conv: 2 measurements", "  flops +177.8%, params +177.8%"]
        # The wider model has four times the FLOPs: 2·2·64·64·9 and 2·2·64·64·25.
        assert [line.split() for line in lines[4:6]] == [
            ["a.py::t", "36.86", "kFLOPs", "102.4", "kFLOPs", "+177.8%", "+177.8%", "regressed"],
            ["a.py::u", "147.5", "kFLOPs", "409.6", "kFLOPs", "+177.8%", "+177.8%", "regressed"],
        ]
        assert lines[6:] == ["", "2 measurements: 2 regressed"]

    def test_a_range(self):
        """One model has 224 parameters besides its convolutions, so its relative change is smaller."""
        old, new = (
            side(t=conv(4, kernel), u=conv(4, kernel, metrics=parameters(2 * 16 * kernel**2 + 224)))
            for kernel in (3, 5)
        )
        # 288 → 800 is +177.8%; 512 → 1024 is +100.0%.
        assert shown(old, new)[1] == "  flops +177.8%, params +100.0% to +177.8%"

    def test_metrics_that_are_not_held_have_their_own_line(self):
        old, new = (side(**{name: conv(4, kernel, metrics={"launches": kernel}) for name in "tu"}) for kernel in (3, 5))
        assert shown(old, new)[1:3] == ["  flops +177.8%, params +177.8%", "  launches +66.7% (not held)"]

    def test_two_causes(self):
        old = side(t=conv(4, 3), u=conv(8, 3), v=conv(4, 3), w=linear(4))
        new = side(t=conv(4, 5), u=conv(8, 5), v=conv(4, 7), w=linear(4, extra=8))
        titles = [line for line in shown(old, new) if line.endswith((" measurements", ": regressed"))]
        assert titles == [
            "Conv2d 3x3 -> 5x5 in blocks.*.conv: 2 measurements",
            "a.py::v: regressed",
            "a.py::w: regressed",
        ]

    def test_another_input_without_another_cost(self):
        old, new = side(t=linear(4), u=linear(4)), side(t=linear(4), u=linear(4))
        new = {key: replace(one, inputs=("float16[2, 4]",)) for key, one in new.items()}
        assert shown(old, new)[0] == "another input: float32[2, 4] -> float16[2, 4]: 2 measurements"

    def test_another_pytorch(self):
        old, new = (
            {
                key: replace(one, pytorch=pytorch)
                for key, one in side(
                    t=conv(4, 3, metrics={"launches": launches}), u=conv(8, 3, metrics={"launches": launches})
                ).items()
            }
            for launches, pytorch in ((2, "2.13"), (3, "2.14"))
        )
        lines = shown(old, new)
        assert lines[:2] == [
            "measured with PyTorch 2.13, then 2.14: 2 measurements",
            "  launches +50.0% (not held)",
        ]
        assert lines[4].split()[-4:] == ["(not", "held)", "=", "changed"]

    def test_unexplained_changes_are_shown_one_by_one(self):
        old, new = side(t=linear(4), u=linear(4)), side(t=linear(4, extra=8), u=linear(4, extra=8))
        lines = shown(old, new)
        assert [line for line in lines if line.endswith(": regressed")] == ["a.py::t: regressed", "a.py::u: regressed"]

    def test_verbose_shows_each_measurement_below_its_cause(self):
        old, new = (side(t=conv(4, kernel), u=conv(8, kernel)) for kernel in (3, 5))
        lines = shown(old, new, verbose=True)
        assert lines[0] == "Conv2d 3x3 -> 5x5 in blocks.*.conv: 2 measurements"
        assert {"a.py::t: regressed", "a.py::u: regressed"} <= set(lines)
        assert "  blocks.{0-1}.conv (x2): Conv2d(8->8, 3x3) -> Conv2d(8->8, 5x5)" in lines

    @pytest.mark.parametrize(("verbose", "rows"), [(False, 10), (True, 50)])
    def test_the_first_of_many(self, verbose, rows):
        old, new = (side(**{f"t{number}": conv(4, kernel) for number in range(64)}) for kernel in (3, 5))
        lines = shown(old, new, verbose=verbose)
        assert sum(line.endswith("  regressed") and line.startswith("a.py::") for line in lines) == rows
        assert lines[4 + rows].split() == ["and", f"{64 - rows}", "more", "regressed"]
        assert lines.count("a.py::t0: regressed") == verbose

    def test_a_renamed_test_of_a_cause(self):
        old = {Key("old.py::t", "model"): conv(4, 3)} | side(u=conv(8, 3))
        lines = shown(old, side(t=conv(4, 5), u=conv(8, 5)))
        assert lines[0] == "Conv2d 3x3 -> 5x5 in blocks.*.conv: 2 measurements"
        assert lines[6:8] == ["  a.py::t was old.py::t", ""]

    def test_new_removed_and_renamed(self):
        lines = shown(side(gone=linear(9), t=linear(4)), side(come=linear(8), u=linear(4)))
        assert lines[2].split() == ["a.py::come", "256", "FLOPs", "new"]
        assert lines[3].split() == ["a.py::gone", "324", "FLOPs", "removed"]
        assert lines[4].split() == ["a.py::u", "64", "FLOPs", "64", "FLOPs", "=", "=", "renamed"]
        assert lines[5] == "  a.py::u was a.py::t"

    def test_nothing_changed(self):
        assert shown(side(t=linear(4)), side(t=linear(4))) == ["1 measurement: 1 unchanged"]

    def test_nothing_at_all(self):
        assert shown({}, {}) == ["no measurements on either side"]

    def test_of_very_many_the_first_are_shown(self):
        lines = shown({}, side(**{f"t{number}": linear(4) for number in range(1_234)}))
        assert len(lines) == 2 + 50 + 1 + 1 + 1
        assert lines[52].split() == ["and", "1,184", "more", "new"]

    @pytest.mark.parametrize("width", [80, 120])
    def test_it_fits_the_screen(self, width):
        lines = shown({}, side(**{"t" * 300: linear(4)}), width=width, encoding="ascii")
        assert max(map(len, lines)) == width
        assert all(line.isascii() for line in lines)


class TestInMarkdown:
    def test_a_regression(self):
        text = in_markdown.text(changes(side(t=conv(4, 3)), side(t=conv(4, 5))), "main", "HEAD")
        edit = use_signs("blocks.{0-1}.conv (x2): Conv2d(4->4, 3x3) -> Conv2d(4->4, 5x5)")
        assert text.startswith(
            f"### Complexity: `main` → `HEAD`\n\n1 measurement: 1 regressed.\n\n- **`{edit}`** in `a.py::t`\n\n| |"
        )
        assert "| ⬆️ | `a.py::t` | 36.86 kFLOPs | 102.4 kFLOPs | +177.8% | +177.8% | regressed |\n" in text
        assert "<details><summary><code>a.py::t: regressed</code></summary>\n\n```text\n" in text
        assert f"\n  {edit}\n  metric" in text

    def test_another_input_stands_first(self):
        old, new = side(t=linear(4)), side(t=linear(5))
        words = use_signs("another input, float32[2, 4] -> float32[2, 5]; layer: Linear(4->4) -> Linear(5->5)")
        assert f"\n- **`{words}`** in `a.py::t`\n" in in_markdown.text(changes(old, new), "main", "HEAD")
        new = side(t=replace(linear(4), inputs=("float16[2, 4]",)))
        words = use_signs("another input, float32[2, 4] -> float16[2, 4]")
        assert f"\n- **`{words}`** in `a.py::t`\n" in in_markdown.text(changes(old, new), "main", "HEAD")

    def test_one_cause_is_described_once(self):
        old, new = (side(t=conv(4, kernel), u=conv(8, kernel)) for kernel in (3, 5))
        text = in_markdown.text(changes(old, new), "main", "HEAD")
        title = use_signs("Conv2d 3x3 -> 5x5 in blocks.*.conv: 2 measurements")
        assert f"\n- **`{title}`**: flops +177.8%, params +177.8%\n\n| |" in text
        assert text.count("<details>") == 1
        assert text.count("| ⬆️ |") == 2
        assert "    flops   params  measurement\n  +177.8%  +177.8%  a.py::t\n  +177.8%  +177.8%  a.py::u\n" in text
        full = in_markdown.text(changes(old, new), "main", "HEAD", verbose=True)
        edit = use_signs("Conv2d(8->8, 3x3) -> Conv2d(8->8, 5x5)")
        assert f"\na.py::u: regressed\n  blocks.{{0-1}}.conv (x2): {edit}\n" in full

    def test_nothing_changed(self):
        text = in_markdown.text(changes(side(t=linear(4)), side(t=linear(4))), "main", "HEAD")
        assert text == "### Complexity: `main` → `HEAD`\n\n1 measurement: 1 unchanged.\n\n"

    def test_a_test_id_cannot_break_the_table(self):
        text = in_markdown.text(changes({}, side(**{"t[a|b`<script>]": linear(4)})), "main", "x|`<y>")
        assert "<script>" not in text
        assert "<y>" not in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert {row.count("|") for row in rows} == {8}

    @pytest.mark.parametrize("count", [10, 400, 5_000])
    @pytest.mark.parametrize("one_cause", [True, False])
    def test_it_keeps_to_githubs_size_and_says_what_it_left_out(self, count, one_cause):
        old = side(**{f"test_number_{number}": linear(4) for number in range(count)})
        # Other widths are other inputs, and therefore other causes.
        new = side(**{f"test_number_{number}": linear(5 if one_cause else 5 + number) for number in range(count)})
        text = in_markdown.text(changes(old, new), "main", "HEAD")
        assert len(text.encode()) <= 65_000
        rows = text.count("| `a.py::test_number_")
        assert ("left out to keep to GitHub's size" in text) == (rows < count)
        if rows < count:
            assert f"… and {count - rows:,} regressed, left out" in text
        details = count if one_cause else text.count("<details>")
        assert (f"… and the details of {count - details:,} regressed, left out" in text) == (details < count)
        causes = count if one_cause else text.count("\n- **")
        assert (f"… and the causes of {count - causes:,} regressed, left out" in text) == (causes < count)
