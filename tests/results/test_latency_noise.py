"""When a latency is too noisy to be judged, and which latencies a baseline keeps."""

from __future__ import annotations

from fractions import Fraction

import pytest
from timed import net, timed

from pytest_flopsbudget.quantities.tolerance import Tolerance
from pytest_flopsbudget.results.latency_noise import NoisyLatency, find_noisy_latency, keep_latencies, without_metrics


class TestUnjudged:
    @pytest.mark.parametrize("spread", [0, 1, 100])
    def test_a_spread_within_the_tolerance(self, spread):
        """If the spread is at most a tenth of the latency, the latency is judged."""
        assert find_noisy_latency(timed(1000, spread), {}) == ()

    def test_a_wider_one(self):
        assert find_noisy_latency(timed(1000, 101), {}) == (
            NoisyLatency(metric="latency[box]", median_ns=1000, spread_ns=101, allowed_ns=100),
        )

    @pytest.mark.parametrize(
        ("tolerance", "allowed"),
        [
            (Tolerance(relative=Fraction(1, 100)), 10),
            (Tolerance(absolute=50), 50),
            (Tolerance(relative=Fraction(1, 100), absolute=50), 50),
        ],
    )
    def test_the_tolerance_is_that_of_latency(self, tolerance, allowed):
        (found,) = find_noisy_latency(timed(1000, 60), {"latency": tolerance, "flops": Tolerance(absolute=99)})
        assert found.allowed_ns == allowed

    @pytest.mark.parametrize("has_budget", [True, False])
    def test_says_whether_it_has_a_budget(self, has_budget):
        (found,) = find_noisy_latency(timed(1000, 101), {}, has_budget=has_budget)
        assert found.has_budget is has_budget

    def test_where_none_was_measured(self):
        assert find_noisy_latency(net({"flops": 1}), {}) == ()


def test_without_metrics():
    assert without_metrics(timed(5), {"latency[box]"}).metrics == {"flops": 2500, "params": 15}
    assert without_metrics(timed(5), ()) == timed(5)


class TestKept:
    def test_of_another_machine(self):
        kept = keep_latencies(timed(5, machine="box"), timed(9, machine="other"))
        assert kept.metrics == {"flops": 2500, "params": 15, "latency[box]": 5, "latency[other]": 9}

    def test_of_this_machine(self):
        """A new latency replaces the old latency of this machine."""
        assert keep_latencies(timed(5), timed(9)).metrics["latency[box]"] == 5
        assert keep_latencies(net({"flops": 1}), timed(9)).metrics == {"flops": 1, "latency[box]": 9}

    def test_times_of_devices_that_nobody_asks_for_any_more_go(self):
        """If the run has no estimated times, an update removes those of the baseline."""
        old = net({"flops": 1, "compute_time[T4]": 3})
        assert keep_latencies(net({"flops": 1}), old).metrics == {"flops": 1}

    def test_without_a_baseline(self):
        assert keep_latencies(timed(5), None) == timed(5)
