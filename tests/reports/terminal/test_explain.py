"""The page that explains one measurement, line by line."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import pytest
from budgets import budget
from build import laws
from explained import DEVICE, blocks, complexity, leaf, metrics, single
from hypothesis import given
from hypothesis import strategies as st
from reporting import verdicts
from rich.cells import cell_len

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.reports.terminal.explain import explain_page
from pytest_flopsbudget.reports.terminal.screen import Screen
from pytest_flopsbudget.results.data import MemoryAtPeak, Module, Phase, UnknownOperator
from pytest_flopsbudget.results.verdict import Measurement, judge

NODEID = "tests/test_net.py::test_net"


def judged(measured, old=None, *budgets, name="model", times=1):
    one = Measurement(name=name, complexity=measured, times=times)
    return judge(one, budgets, Settings(), old, accepts=False)


def lines(verdict, *devices, width=80, encoding="utf-8", colour=False, nodeid=NODEID):
    return explain_page(nodeid, verdict, devices, Screen(width=width, colour=colour, encoding=encoding))


def of(measured, *devices, **screen):
    return lines(judged(measured), *devices, **screen)


def section(found, title):
    (start,) = (i for i, line in enumerate(found) if line.startswith(title))
    return found[start + 1 : [*found, ""].index("", start)]


def table(found, title):
    """Return the rows of a table as lists of words, without the head of the table."""
    return [line.split() for line in section(found, title)[2:]]


class TestHead:
    def test_what_was_measured(self):
        assert of(complexity({"": leaf("Net")}, inputs=("float32[1, 3]", "mask=bool[1]")))[:4] == [
            NODEID,
            "  Net of float32[1, 3], mask=bool[1]",
            "  forward, on shapes, without data",
            "  new: held to no limit, no baseline",
        ]

    def test_a_name(self):
        assert lines(judged(blocks(), name="student"))[0] == f"{NODEID}:student"

    def test_how(self):
        phases = {"forward": Phase(metrics=metrics()), "backward": Phase(metrics=metrics())}
        measured = complexity({"": leaf("Net")}, execution="watched", phases=phases, inputs=())
        found = lines(judged(measured, times=3), width=120)
        assert found[1] == "  Net of no tensors"
        assert found[2] == ("  forward and backward, watched, as the test ran it; the largest of 3 measurements")

    @pytest.mark.parametrize(
        ("flops", "limit", "words"),
        [
            (520, None, "ok: held to no limit, as in the baseline"),
            (520, 1040, "ok: 50.0% of the limit that is used up most, as in the baseline"),
            (520, 260, "over limit: 200.0% of the limit that is used up most, as in the baseline"),
            (416, None, "regressed: held to no limit, +25.0% FLOPs against the baseline"),
        ],
    )
    def test_verdict(self, flops, limit, words):
        old, new = (complexity({"": leaf("Net", flops=one)}) for one in (flops, 520))
        budgets = [budget("here", {"flops": limit})] if limit else []
        assert f"  {words}" in lines(judged(new, old, *budgets))

    def test_what_else_changed(self):
        old, new = (complexity({"": leaf("Net", flops=9, params=one)}) for one in (5, 6))
        (line,) = (line for line in lines(judged(new, old), width=120) if "regressed" in line)
        assert line.endswith("as many FLOPs as in the baseline, but others changed")

    def test_notes_and_what_could_not_be_counted(self):
        unknown = {"mylib.scan": UnknownOperator(calls=2, modules=("layer",))}
        found = of(complexity({"": leaf("Net")}, notes=("a note",), unknown_operators=unknown))
        assert "  a note" in found
        start = found.index("  operators without a formula, missing from all that follows:")
        assert "mylib.scan" in found[start + 1]


class TestTotals:
    def test_all_that_is_something(self):
        """The page leaves out a metric that is 0, unless the metric is FLOPs or parameters."""
        values = {
            **metrics(flops=2000, traffic=500, params=7),
            "trainable_params": 7,
            "depth": 4,
            "recomputed_flops": 0,
        }
        found = section(of(complexity({"": leaf("Net")}, total=values), width=60), "totals")
        assert [re.split(r"\s{2,}", line.strip()) for line in found] == [
            ["FLOPs", "2 kFLOPs"],
            ["MACs", "1 kMACs"],
            ["total FLOPs", "2 kFLOPs"],
            ["params", "7"],
            ["param bytes", "28 B"],
            ["memory traffic", "500 B"],
            ["launches", "1"],
            ["steps in depth", "4"],
            ["intensity", "4 FLOPs/byte"],
            ["parallelism", "500 FLOPs/step"],
        ]

    def test_frozen_parameters(self):
        values = {**metrics(params=7), "trainable_params": 0}
        assert "trainable" not in "\n".join(of(complexity({"": leaf("Net")}, total=values)))
        values["trainable_params"] = 3
        assert re.search(r"trainable +3\b", "\n".join(of(complexity({"": leaf("Net")}, total=values))))

    def test_side_by_side(self):
        """On a wide terminal, the totals have two columns."""
        narrow, wide = (section(of(blocks(), width=width), "totals") for width in (60, 80))
        assert len(wide) == (len(narrow) + 1) // 2

    def test_peak(self):
        peak = MemoryAtPeak(total=3072, operator="aten.mm", module="head", parameters=2048, activations=1024)
        assert "  peak 3 KiB in head (aten.mm): 2 KiB parameters, 1 KiB activations" in of(
            complexity({"": leaf("Net")}, memory_at_peak=peak)
        )


class TestBounds:
    def test_a_device(self):
        """For each device, the page shows the parts of the estimated time."""
        # ns: compute 2 * 20, memory 2 * 120 + 1000, launches 5 * 100.
        assert section(of(blocks(), DEVICE), "bounds") == [
            "  chip: at least 1.78 us (estimate), memory-bound",
            "    compute 40 ns (2.2%), memory 1.24 us (69.7%), launches 500 ns (28.1%)",
            "    products are compute-bound from 10 (float32), 40 (bfloat16) FLOPs/byte on;",
            "    all operators together have 0.2826 FLOPs/byte",
        ]

    @pytest.mark.parametrize(
        ("peak", "words"),
        [
            (10**5, "fits: a peak of 97.66 KiB is 10% of the 976.6 KiB"),
            (2 * 10**6, "does not fit: a peak of 1.907 MiB is 200% of the 976.6 KiB"),
        ],
    )
    def test_whether_it_fits(self, peak, words):
        measured = blocks()
        measured = msgspec.structs.replace(measured, metrics={**measured.metrics, "peak_memory": peak})
        assert any(words in line for line in of(measured, DEVICE, width=120))
        without = replace(DEVICE, memory=None)
        assert not any("a peak of" in line for line in of(measured, without, width=120))

    def test_tf32(self):
        """If the device has a rate for TF32, the page shows the least intensity at which TF32 is compute-bound."""
        device = replace(DEVICE, rates={**DEVICE.rates, "tfloat32": 20 * 10**9})
        assert any("10 (float32), 20 (TF32), 40 (bfloat16)" in line for line in of(blocks(), device))

    def test_none(self):
        (line, *rest) = section(of(blocks()), "bounds")
        assert "no device was asked for" in line
        assert 'time-on = ["A100"]' in " ".join(rest)

    def test_no_time(self):
        """If the model ran no operator, its time is 0 ns."""
        measured = complexity({"": leaf("Net", launches=0, times=(0, 0, 0))})
        assert "  chip: at least 0 ns (estimate), compute-bound" in of(measured, DEVICE)


class TestTables:
    def test_phases(self):
        phases = {"forward": Phase(metrics=metrics(flops=100)), "backward": Phase(metrics=metrics(flops=300))}
        measured = complexity({"": leaf("Net", flops=400)}, phases=phases)
        assert table(of(measured), "by phase") == [["forward", "25%"], ["backward", "75%"]]

    def test_one_phase(self):
        assert not [line for line in of(blocks()) if line.startswith("by phase")]

    def test_modules(self):
        """The page sorts modules by time."""
        # ns: 1100 of 1780 for the head, 680 for the blocks, of which 440 are their self times.
        assert table(of(blocks(), DEVICE), "modules, by least time on chip (estimate)") == [
            ["(model)", "Net", "100%", "100%", "100%", "100%"],
            ["head", "Linear", "19.2%", "50%", "54.3%", "61.8%"],
            ["layers.{0-1}", "Block", "80.8%", "50%", "45.7%", "38.2%"],
            ["linear", "Linear", "76.9%", "50%", "32.6%", "13.5%"],
            ["(itself)", "3.8%", "0%", "13%", "24.7%"],
        ]

    def test_small_ones_together(self):
        modules = {"": leaf("Net", flops=1000), "large": leaf("Conv2d", flops=985)}
        modules |= {f"small{i}": leaf("ReLU", flops=5) for i in "abc"}
        assert table(of(complexity(modules)), "modules")[1:] == [
            ["large", "Conv2d", "98.5%"],
            ["(3", "smaller)", "1.5%"],
        ]

    def test_a_deep_tree(self):
        """If a model has too many modules for the page, the page shows the children of the most expensive modules."""
        modules = {"": leaf("Net", flops=4**6)}
        for depth in range(1, 6):
            for i in range(2**depth):
                path = ".".join(f"b{bit}" for bit in f"{i:0{depth}b}")
                modules[path] = leaf(f"Block{i}", flops=4 ** (6 - depth) * (1 + 2 * int(path[-1])))
        rows = table(of(complexity(modules)), "modules")
        assert 18 <= len(rows) < 18 + 8
        assert rows[1][0] == "b1"

    def test_operators(self):
        """If no time was estimated, the page sorts operators by their share of the FLOPs or of the bytes."""
        assert table(of(blocks()), "operators, by FLOPs or bytes, whichever is the larger share") == [
            ["aten.mm", "3", "500", "1.562", "KiB", "0.3125"],
            ["aten.add", "2", "20", "240", "B", "0.08333"],
        ]

    def test_operators_on_a_device(self):
        values = metrics(flops=60, traffic=60, times=(0, 60, 40))
        measured = complexity({"": leaf("Net", flops=60, traffic=60, times=(0, 60, 40))}, [("aten.mm", 1, values)])
        assert table(of(measured, DEVICE), "operators") == [
            ["aten.mm", "1", "60", "60", "B", "1", ">=100", "ns", "100%"]
        ]

    def test_what_is_0_of_an_operator(self):
        """If an operator lacks a metric, the page shows 0."""
        kept = {"flops": 60, "other_flops": 0, "launches": 1, "launch_time[chip]": 40}
        measured = complexity({"": leaf("Net", flops=60, times=(0, 0, 40))}, [("aten.mm", 1, kept)])
        assert table(of(measured, DEVICE), "operators") == [["aten.mm", "1", "60", "0", "B", ">=40", "ns", "100%"]]

    def test_many_operators(self):
        operators = [(f"aten.op{i:02}", 2, {"flops": 100 - i, "other_flops": 0}) for i in range(30)]
        measured = complexity({"": leaf("Net", flops=3000)}, operators)
        rows = table(of(measured), "operators")
        assert [f"aten.op{i:02}" for i in range(18)] == [row[0] for row in rows[:-1]]
        assert rows[-1][:3] == ["(12", "more)", "24"]

    def test_no_operators(self):
        assert not [line for line in of(complexity({"": leaf("Net")})) if line.startswith("operators")]


class TestPlaces:
    def test_order(self):
        """The list of promising places begins with the most expensive module."""
        found = section(of(blocks(), DEVICE), "most promising places, by least time on chip (estimate)")
        assert found[:2] == [
            "  1. head",
            "     Linear 10\u219210, >=1.1 us, 61.8% of time, 19.2% of FLOPs, 54.3% of bytes",
        ]
        assert found[2].startswith("     memory-bound: 0.1 FLOPs/byte; ")
        assert [line for line in found if re.match(r" +\d+\. ", line)] == [
            "  1. head",
            "  2. layers.{0-1}, itself",
            "  3. layers.{0-1}.linear",
        ]
        assert "     Block, >=440 ns, 24.7% of time, 3.8% of FLOPs, 13% of bytes, 2 calls" in found

    def test_ten(self):
        modules = {"": leaf("Net", flops=7800)}
        modules |= {f"layer{i:02}": leaf("Linear", flops=100 * i) for i in range(1, 13)}
        found = section(of(complexity(modules)), "most promising places")
        names = [line.strip() for line in found if "layer" in line]
        assert [f"{i}. layer{13 - i:02}" for i in range(1, 11)] == names
        assert " 10. layer03" in found

    def test_the_model_itself(self):
        found = section(of(single(leaf("Linear", flops=5))), "most promising")
        assert found[0] == "  1. layer"
        assert section(of(complexity({"": leaf("sum", flops=5)})), "most promising")[0] == "  1. (model)"

    def test_a_long_path(self):
        """If the path of a module is too long for a line, the page breaks the path after a dot."""
        path = ".".join(["a_rather_long_name"] * 6)
        found = section(of(complexity({"": leaf("Net", flops=5), path: leaf("Linear", flops=5)})), "most promising")
        broken = [line.strip() for line in found if "long_name" in line]
        assert len(broken) == 2
        assert "".join(broken).removeprefix("1. ") == path


WIDTHS = st.integers(40, 130)


class TestScreens:
    @given(verdicts(), WIDTHS, st.sampled_from(["utf-8", "ascii", None]), st.booleans())
    def test_any_measurement(self, verdict, width, encoding, colour):
        """On any screen, each line fits the width and has only characters that the screen can show."""
        for line in lines(verdict, DEVICE, width=width, encoding=encoding, colour=colour):
            plain = re.sub(r"\x1b\[[\d;]*m", "", line)
            assert cell_len(plain) <= width
            assert plain.isprintable()
            if encoding != "utf-8":
                plain.encode("ascii")

    @pytest.mark.parametrize("width", range(30, 130, 7))
    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    def test_widths(self, width, encoding):
        """If a name is long, the line still fits the width."""
        modules = dict(blocks().modules)
        modules["head"] = Module(type="V\u00e9ry" * 9, shape="10->10", calls=1, metrics=modules["head"].metrics)
        measured = msgspec.structs.replace(blocks(), modules=modules, notes=("w" * 200,), inputs=("float32[1]",) * 20)
        found = of(measured, DEVICE, width=width, encoding=encoding, nodeid=f"{NODEID}[{'x' * 150}]")
        assert max(map(cell_len, found)) <= width
        (row,) = (line for line in found if line.startswith("(model) "))
        assert row.endswith(" 100%")

    def test_ascii(self):
        assert "Linear 10->10, >=1.1 us" in "\n".join(of(blocks(), DEVICE, encoding="ascii"))

    def test_colour(self):
        plain, coloured = (of(blocks(), DEVICE, colour=colour) for colour in (False, True))
        assert plain == [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in coloured]
        assert plain != coloured


class TestGrowth:
    LAWS = laws(
        {"sequence": range(16, 1025)},
        {"flops": {"sequence^2": 4, "sequence": 256}, "params": {"1": 20}},
        {"attn": {"flops": {"sequence^2": 4}}},
    )

    def test_laws_and_what_they_mean(self):
        assert section(of(complexity({"": leaf("Net")}, laws=self.LAWS)), "growth") == [
            "  flops = 4·S² + 256·S",
            "      doubling S costs x2.40 from 16 to 32, x3.78 from 512 to 1,024",
            "      4·S² overtakes 256·S at S = 65",
            "      in attn: 4·S²",
            "  equal for every size: params",
        ]

    def test_a_terminal_without_signs(self):
        found = of(complexity({"": leaf("Net")}, laws=self.LAWS), encoding="ascii")
        assert "  flops = 4*S^2 + 256*S" in found

    def test_no_section_without_laws(self):
        assert "growth" not in of(complexity({"": leaf("Net")}))
