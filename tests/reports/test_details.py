"""Lines about memory, times and latencies."""

from __future__ import annotations

import pytest
from budgets import budget
from msgspec.structs import replace
from timed import estimated, net, peaking, timed, times

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.reports import details
from pytest_flopsbudget.results.data import MEMORY_KINDS, MemoryAtPeak
from pytest_flopsbudget.results.verdict import Measurement, judge

GIB = 2**30


class TestAtPeak:
    def test_where_and_what(self):
        """Kinds of memory are sorted by their bytes."""
        one = peaking(
            2 * GIB, "layer1.0.conv2", parameters=GIB // 2, activations=GIB * 5 // 4, optimizer_state=GIB // 4
        )
        assert " ".join(details.peak_lines(one)) == (
            "peak 2 GiB in layer1.0.conv2 (aten.convolution): 1.25 GiB activations, 512 MiB parameters, "
            "256 MiB optimizer state"
        )

    def test_in_no_module(self):
        assert list(details.peak_lines(peaking(8, "", inputs=8))) == [
            "peak 8 B in the model itself (aten.convolution): 8 B inputs"
        ]

    def test_every_kind_is_told(self):
        """`MEMORY_KINDS` has each field of `MemoryAtPeak` that counts the bytes of one kind of memory."""
        assert {*MEMORY_KINDS} == {*MemoryAtPeak.__struct_fields__} - {"total", "operator", "module"}

    def test_not_followed(self):
        assert list(details.peak_lines(net({"flops": 1}))) == []


class TestTimes:
    def test_bound_by_compute(self):
        """The line about a time ends with the parts of the time."""
        assert list(details.time_lines(estimated())) == [
            "A100: at least 1.4 us (estimate), compute-bound (compute 900 ns, memory 300 ns, launches 200 ns)"
        ]

    @pytest.mark.parametrize(("parts", "bound"), [((1, 2, 1), "memory"), ((1, 2, 3), "launch"), ((3, 2, 1), "compute")])
    def test_bound_by_the_largest_part(self, parts, bound):
        (line,) = details.time_lines(net(times(*parts)))
        assert f" {bound}-bound " in line

    def test_a_line_a_device(self):
        one = net(times(1, 2, 3, "T4") | times(4, 5, 6, "A100"))
        assert [line.partition(":")[0] for line in details.time_lines(one)] == ["A100", "T4"]

    def test_of_a_module(self):
        """For a module, `bounded_time` returns its time and what bounds it."""
        one = estimated()
        assert details.bounded_time(one["stem"].metrics, "A100") == ">=1 us compute"
        assert details.bounded_time(one["head"].metrics, "A100") == ">=400 ns memory"
        assert details.bounded_time({"flops": 1}, "A100") == ""


def judged(complexity, *budgets, settings=None):
    measurement = Measurement(name="model", complexity=complexity)
    return judge(measurement, budgets, settings or Settings(), None, accepts=False)


class TestLatency:
    def test_line(self):
        one = timed(3_000_000, 200_000, share_of_roofline=0.41, mfu=0.355)
        assert " ".join(details.latency_lines(one)) == (
            "latency on box: 3 ms, the median of 30 runs on 1 thread, quartiles 2.9 ms and 3.1 ms; "
            "41% of the roofline, 35.5% of peak FLOP/s (MFU)"
        )

    def test_of_a_machine_without_a_profile(self):
        (line,) = details.latency_lines(timed(3_000_000))
        assert line.endswith("quartiles 3 ms and 3 ms")

    def test_not_judged(self):
        """If the spread of a latency is wider than the tolerance, a line says that the latency is not judged."""
        (line,) = details.noisy_latency_lines(judged(timed(1000, 140), budget("here", {"latency": 10})))
        assert line.startswith("latency not judged: its spread, 14.0%, is wider than its tolerance, 10.0%: ")

    @pytest.mark.parametrize(
        ("settings", "budgets", "shown"),
        [
            (Settings(), [], False),
            (Settings(), [budget("here", {"flops": 1})], False),
            (Settings(hold=frozenset(("latency",))), [], True),
            (Settings(hold=frozenset(("latency",))), [budget("here", {}, hold=frozenset(("flops",)))], False),
            (Settings(), [budget("here", {}, hold=frozenset(("latency",)))], True),
            (Settings(), [budget("here", {"latency": 10})], True),
            (Settings(limits=budget("everywhere", {"latency": 10})), [budget("everywhere", {"latency": 10})], True),
        ],
    )
    def test_not_judged_without_a_budget(self, settings, budgets, shown):
        """If neither a limit nor the baseline applies to the latency, no text says that it is not judged."""
        verdict = judged(timed(1000, 140), *budgets, settings=settings)
        assert bool(list(details.noisy_latency_lines(verdict))) == shown
        assert [one.metric for one in verdict.unjudged] == ["latency[box]"]

    def test_judged(self):
        verdict = judged(timed(1000, 100), budget("here", {"latency": 10}))
        assert list(details.noisy_latency_lines(verdict)) == []


def test_lines_are_all_of_them():
    one = replace(timed(5, complexity=estimated()), memory_at_peak=peaking().memory_at_peak)
    assert [line.split()[0] for line in details.detail_lines(one)] == ["peak", "A100:", "latency"]
