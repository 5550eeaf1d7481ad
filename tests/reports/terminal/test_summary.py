"""The summary, line by line."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from budgets import budget
from msgspec.structs import replace
from timed import estimated, net, peaking, timed, times

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.quantities.metrics import COMPARED
from pytest_flopsbudget.reports import details
from pytest_flopsbudget.reports.terminal.screen import Screen
from pytest_flopsbudget.reports.terminal.summary import summary
from pytest_flopsbudget.reports.wording import format_change
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import PLEASE_REPORT, Module, UnknownOperator
from pytest_flopsbudget.results.verdict import Measurement, judge
from pytest_flopsbudget.safe_text import can_show_signs, pluralize, use_signs
from pytest_flopsbudget.storage.run_record import Entry, pack_verdicts


def complexity(flops=2000, params=20, modules=None, **fields):
    metrics = {"flops": flops, "params": params}
    modules = {"": Module(type="Net", calls=1, metrics=metrics)} | (modules or {})
    fields = {"inputs": ("float32[1]",), "execution": "shapes"} | fields
    return Complexity(model="Net", metrics=metrics, modules=modules, **fields)


def entry(
    new=None, old=None, *budgets, nodeid="test_net.py::test_a", name="model", accepts=False, vanished=(), hold=COMPARED
):
    measurement = Measurement(name=name, complexity=new or complexity())
    verdict = judge(measurement, budgets, Settings(hold=hold), old, accepts=accepts)
    return Entry.from_builtins(
        pack_verdicts(nodeid, Path("test_net.py"), 0, [verdict], vanished, seconds=0.25), passed=True
    )


def lines(*entries, width=80, encoding="utf-8", colour=False, settings=None, verbosity=0, accepts=False):
    screen = Screen(width=width, colour=colour, encoding=encoding)
    settings = settings or Settings()
    return summary(entries, screen, lambda _: settings, show=settings.show, verbosity=verbosity, accepts=accepts)


def rows(*entries, **screen):
    """Return the rows of the table as lists of words, without the head of the table."""
    table = lines(*entries, **screen)
    return [line.split() for line in table[3 : table.index("")]] if "" in table else []


class TestTable:
    @pytest.mark.parametrize("verbosity", [0, 1])
    def test_a_name_that_cannot_be_seen(self, verbosity):
        """Unprintable characters in a name neither break a line nor control the terminal."""
        found = lines(entry(name="a\nb\x1b[2J\0"), verbosity=verbosity)
        assert found[3].startswith(r"  test_a a\nb\x1b[2J\x00 ")
        assert all(line.isprintable() for line in found)

    def test_rows(self):
        """Each measurement has a row with its value, change, share of the limit, parameters and verdict."""
        assert rows(
            entry(complexity(), complexity()),
            entry(complexity(3000), complexity(), budget("here", {"flops": 2000}), nodeid="test_net.py::test_b"),
            entry(complexity(1000), complexity(), budget("here", {"flops": 2000}), nodeid="test_net.py::test_c"),
            entry(complexity(), None, budget("here", {"flops": 2000}), nodeid="test_net.py::test_d"),
            entry(complexity(params=30), complexity(), nodeid="test_net.py::test_e"),
        ) == [
            ["test_b", "3", "kFLOPs", "+50.0%", "150.0%", "20", "over", "limit"],
            ["test_c", "1", "kFLOPs", "-50.0%", "50.0%", "20", "improved"],
            ["test_d", "2", "kFLOPs", "100%", "20", "new"],
            ["test_e", "2", "kFLOPs", "params", "+50.0%", "30", "regressed"],
        ]

    def test_all_rows_with_v(self):
        found = lines(entry(complexity(), complexity()), verbosity=1)
        assert found[3].split() == ["test_a", "2", "kFLOPs", "=", "20", "ok"]

    @pytest.mark.parametrize(
        ("one", "shown"),
        [
            (entry(complexity(), complexity()), False),
            (entry(peaking(2), peaking(1), hold=("flops",)), False),
            (entry(complexity(notes=("ran on data",)), complexity()), True),
            (entry(timed(1000, 140), timed(1000)), True),
            (entry(complexity(1000), complexity()), True),
        ],
        ids=["as before", "moved", "noted", "noisy", "improved"],
    )
    def test_rows_for_what_needs_a_look(self, one, shown):
        assert bool(rows(one)) is shown

    def test_all_right_is_one_line(self):
        many = [entry(complexity(), complexity(), nodeid=f"test_net.py::test_{i}") for i in range(60)]
        (line,) = lines(*many)
        assert line.startswith("60 measurements: 60 ok; ")

    def test_what_fails_is_what_the_row_is_about(self):
        """A model with 75% fewer FLOPs and 7.7% more parameters fails for its parameters."""
        (row,) = rows(entry(complexity(500, params=140), complexity(2000, params=130)))
        assert row == ["test_a", "500", "FLOPs", "params", "+7.7%", "140", "regressed"]

    @pytest.mark.parametrize(
        ("flops", "limit", "share"),
        [
            (10**9, 10**9, "100%"),
            (10**9 + 1, 10**9, ">100%"),
            (10**9 - 1, 10**9, "99.9%"),
            (0, 0, "100%"),
            (5, 0, ">100%"),
        ],
    )
    def test_share(self, flops, limit, share):
        """The summary shows a share of 100% only if the value equals the limit exactly."""
        (row,) = rows(entry(complexity(flops), complexity(flops), budget("here", {"flops": limit})), verbosity=1)[:1]
        # Before the share, a row has the name of the test, the value, its unit and the change.
        assert row[4] == share

    def test_a_name_is_shown_where_it_tells_something(self):
        assert rows(entry(name="student"), verbosity=0)[0][:2] == ["test_a", "student"]

    def test_files_are_told_once(self):
        table = lines(
            entry(nodeid="a.py::test_a"), entry(nodeid="a.py::test_b"), entry(nodeid="b.py::test_a"), width=80
        )
        assert [line for line in table if line.endswith(".py")] == ["a.py", "b.py"]

    @pytest.mark.parametrize("width", [60, 80, 99, 100, 200])
    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    def test_width(self, width, encoding):
        long = entry(nodeid=f"tests/{'deep/' * 40}test_net.py::test_{'x' * 300}[end]")
        table = lines(long, width=width, encoding=encoding)
        body = table[: table.index("")]
        assert max(map(len, body)) <= width
        assert "[end]" in body[3]
        assert ("..." if encoding == "ascii" else "\u2026") in body[3]

    @pytest.mark.parametrize("encoding", ["ascii", None, "latin-1", "no such encoding"])
    def test_signs_beyond_ascii_only_where_they_can_be_shown(self, encoding):
        changed = entry(complexity(inputs=("float32[2]",)), complexity())
        assert all(line.isascii() for line in lines(changed, encoding=encoding, verbosity=1))
        assert not all(line.isascii() for line in lines(changed, verbosity=1))

    def test_colour(self):
        assert not any("\x1b" in line for line in lines(entry()))
        assert any("\x1b[36mnew" in line for line in lines(entry(), colour=True))

    def test_macs(self):
        assert rows(entry(), settings=Settings(show="macs"))[0][1:3] == ["1", "kMACs"]


TREE = {
    "a": Module(type="Linear", calls=1, metrics={"flops": 1500, "params": 10}),
    "b": Module(type="Linear", calls=2, metrics={"flops": 500, "params": 10}),
    "act": Module(type="ReLU", calls=1, metrics={"flops": 0, "params": 0}),
}


class TestModules:
    def test_only_when_asked_for(self):
        assert not any("Linear" in line for line in lines(entry(complexity(modules=TREE))))

    def test_rows(self):
        """With -v, each module that costs something has a row."""
        table = lines(entry(complexity(modules=TREE)), verbosity=1)
        assert [line.split() for line in table if "Linear" in line or "(model)" in line or "ReLU" in line] == [
            ["(model)", "Net", "1", "2", "kFLOPs", "20"],
            ["a", "Linear", "1", "1.5", "kFLOPs", "10"],
            ["b", "Linear", "2", "500", "FLOPs", "10"],
        ]

    def test_equal_layers_on_one_row(self):
        """Four layers of 500 FLOPs and 5 parameters have one row with their sum, as in failures."""
        layers = {f"layers.{i}": Module(type="Linear", calls=1, metrics={"flops": 500, "params": 5}) for i in range(4)}
        table = lines(entry(complexity(modules=layers)), verbosity=1)
        assert ["layers.{0-3}", "Linear", "4\u00d71", "2", "kFLOPs", "20"] in [line.split() for line in table]


class TestClosing:
    def test_totals(self):
        """The last line has the number of measurements and their total FLOPs."""
        table = lines(entry(complexity(), complexity()), entry(nodeid="test_net.py::test_b"))
        assert "2 measurements: 1 new, 1 ok; 4 kFLOPs counted in 0.50 s" in table

    def test_improved(self):
        """If one test improved, the summary has a command that updates the baseline of this test."""
        better = complexity(1000), complexity()
        one = lines(entry(*better))
        assert one[-1] == (
            "1 test improved; tighten the baseline: pytest --flops-budget-update=improved test_net.py::test_a"
        )
        two = lines(entry(*better), entry(*better, nodeid="test_net.py::test_b"))
        assert two[-1] == "2 tests improved; tighten the baseline: pytest --flops-budget-update=improved"

    @pytest.mark.parametrize(("reaction", "told"), [("warn", True), ("fail", True), ("ignore", False)])
    def test_without_a_baseline(self, reaction, told):
        table = lines(entry(), settings=Settings(missing_baseline=reaction))
        assert any("1 test without a baseline; write it: " in line for line in table) == told

    def test_a_run_that_accepts_needs_no_advice(self):
        table = lines(entry(complexity(1000), complexity(), accepts=True), accepts=True)
        assert not any("--flops-budget-update" in line for line in table)

    def test_what_else_is_worth_a_word(self):
        """Notes name models that ran on data, unknown operators, changed inputs and missing measurements."""
        unknown = {"mine.op": UnknownOperator(calls=2, modules=("a",))}
        new = complexity(
            inputs=("float32[2]",), execution="real", notes=("ran on real data",), unknown_operators=unknown
        )
        table = lines(entry(new, complexity(), vanished=("student",)))
        notes = [line for line in table if line.startswith(("test_net.py::", "    mine.op: "))]
        assert notes == [
            "test_net.py::test_a: ran on real data",
            "test_net.py::test_a: operators without a formula, missing from the count:",
            "    mine.op: 2 calls in a",
            "test_net.py::test_a: the input changed: float32[1] \u2192 float32[2]",
            "test_net.py::test_a: in the baseline, but no longer measured: student",
        ]

    def test_notes_that_ask_for_a_report(self):
        """A note that asks for a report is shown once a run, and other notes for each test."""
        other = "ran on real data"
        first, second = (f"PyTorch 2.99 does {way}; {PLEASE_REPORT}" for way in ("this", "that"))
        entries = [
            entry(complexity(notes=notes), complexity(), nodeid=f"test_net.py::test_{name}")
            for name, notes in (("a", (first, other)), ("b", (first,)), ("c", (second, first)), ("d", (other,)))
        ]
        assert [line for line in lines(*entries, width=200) if ": " in line and line.startswith("test_net.py::")] == [
            f"test_net.py::test_a and 2 other tests: {first}",
            f"test_net.py::test_c: {second}",
            f"test_net.py::test_a: {other}",
            f"test_net.py::test_d: {other}",
        ]

    def test_a_metric_that_is_no_longer_measured(self):
        gone = msgspec.structs.replace(complexity(), metrics={"flops": 2000, "params": 20, "buffer_bytes": 7})
        assert lines(entry(complexity(), gone))[-1] == (
            "test_net.py::test_a: in the baseline, but no longer measured: buffer_bytes"
        )

    def test_quiet(self):
        """With -q, the summary is only a line with totals."""
        assert lines(entry(complexity(), complexity()), verbosity=-1) == [
            "1 measurement: 1 ok; 2 kFLOPs counted in 0.25 s"
        ]

    def test_nothing_measured_any_more(self):
        """If nothing was measured, there is neither a table nor a line with totals."""
        gone = Entry.from_builtins(
            pack_verdicts("test_net.py::test_a", Path("test_net.py"), 0, [], ["model"]), passed=True
        )
        assert lines(gone, verbosity=1) == ["test_net.py::test_a: in the baseline, but no longer measured: model"]


class TestText:
    def test_signs(self):
        assert use_signs("Conv2d 3x3 -> 5x5, xmax 0x1F") == "Conv2d 3\u00d73 \u2192 5\u00d75, xmax 0\u00d71F"

    @pytest.mark.parametrize(
        ("encoding", "shown"), [("utf-8", True), ("ascii", False), ("latin-1", False), (None, False)]
    )
    def test_can_show_signs(self, encoding, shown):
        assert can_show_signs(encoding) == shown

    def test_counted(self):
        assert [pluralize(number, "test") for number in (0, 1, 2, 1000)] == [
            "0 tests",
            "1 test",
            "2 tests",
            "1,000 tests",
        ]

    def test_from_to(self):
        assert format_change(20, 25, "params") == "20 -> 25, +5 params (+25.0%)"


class TestBeyondWork:
    @pytest.mark.parametrize(
        ("show", "cells"),
        [
            ("peak_memory", ["3", "MiB", "+200.0%"]),
            ("flops", ["2", "kFLOPs", "peak_memory", "+200.0%"]),
            # The metric was not measured: its cell is empty, and the change is that of another metric.
            ("time[A100]", ["peak_memory", "+200.0%"]),
            ("depth", ["peak_memory", "+200.0%"]),
        ],
    )
    def test_any_metric_may_be_shown(self, show, cells):
        new, old = peaking(3 * 2**20), peaking(2**20)
        (row,) = rows(entry(new, old), settings=Settings(show=show))
        assert row == ["test_a", *cells, "10", "regressed"]

    def test_a_time(self):
        """The head of the table says that a time is an estimate."""
        table = lines(entry(estimated(memory=500), estimated()), settings=Settings(show="time[A100]"))
        assert table[0].split() == ["measurement", "est.", "time", "A100", "change", "limit", "params", "verdict"]
        assert rows(entry(estimated(memory=500), estimated()), settings=Settings(show="time[A100]")) == [
            ["test_a", ">=1.6", "us", "+14.3%", "15", "regressed"]
        ]
        assert max(map(len, table[: table.index("")])) <= 80

    def test_a_ratio(self):
        """If a module moves no bytes, its cell for the intensity is empty."""
        one = net({"flops": 7, "other_flops": 0, "memory_traffic": 2, "params": 1}, {"params": 2})
        found = lines(entry(one), settings=Settings(show="arithmetic_intensity"), verbosity=1)
        assert found[3].split()[:3] == ["test_a", "3.5", "FLOPs/byte"]
        head = next(line for line in found if line.startswith("head"))
        assert head.split() == ["head", "Linear", "1", "2"]

    def test_what_filled_memory_and_what_bounds_time(self):
        """With -v, lines below the modules show the memory at the peak, the times and the latency."""
        one = timed(1000, complexity=replace(estimated(), memory_at_peak=peaking().memory_at_peak))
        told = lines(entry(one), verbosity=1)
        assert "  peak 100 B in stem (aten.convolution): 100 B activations" in told
        assert any(line.startswith("  A100: at least 1.4 us (estimate), compute-bound (") for line in told)
        assert any(line.startswith("  latency on box: 1 us, the median of 30 runs") for line in told)
        assert not any("compute-bound" in line or "peak 100 B" in line for line in lines(entry(one)))

    def test_long_lines_go_on_below(self):
        """A line that is too long continues on the next line."""
        one = peaking(700, "a" * 40, **dict.fromkeys(("parameters", "inputs", "gradients", "activations"), 175))
        told = lines(entry(one), verbosity=1, width=80)
        start = next(number for number, line in enumerate(told) if line.startswith("  peak 700 B"))
        assert all(len(line) <= 80 for line in told[start : start + 2])
        assert told[start + 1].startswith("      ")
        assert " ".join(" ".join(told[start : start + 2]).split()) == next(details.peak_lines(one))

    def test_times_of_modules(self):
        devices = times(5, 0, 1, "A100") | times(0, 7, 1, "T4") | times(1, 1, 9, "V100")
        one = net(devices | {"flops": 1, "params": 1})
        narrow, wide = (lines(entry(one), verbosity=1, width=width) for width in (80, 160))
        row = next(line for line in narrow if line.startswith("stem"))
        assert row.split() == ["stem", "Conv2d", "1", "1", "FLOPs", "1", ">=6", "ns", "compute", ">=8", "ns", "memory"]
        row = next(line for line in wide if line.startswith("stem"))
        assert row.split()[-6:] == [">=8", "ns", "memory", ">=11", "ns", "launch"]
        assert max(len(line) for line in narrow if line.startswith(("stem", "head"))) <= 80

    def test_equal_layers_are_one_row(self):
        """Equal layers with different peaks share a row, unless the summary shows the peaks."""
        layers = {
            str(i): Module(type="L", calls=1, metrics={"flops": 2, "params": 1, "peak_memory": i}) for i in range(3)
        }
        one = complexity(modules=layers)
        assert any(line.startswith("{0-2} ") for line in lines(entry(one), verbosity=1))
        apart = lines(entry(one), settings=Settings(show="peak_memory"), verbosity=1)
        assert [line.split()[0] for line in apart if " L " in line] == ["0", "1", "2"]

    def test_a_latency_that_is_not_judged(self):
        told = lines(entry(timed(1000, 140), timed(10)))
        assert any("test_a: latency not judged: its spread, 14.0%" in line for line in told)
