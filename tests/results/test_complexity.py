"""Values that a measurement computes from its metrics."""

from __future__ import annotations

from fractions import Fraction

import pytest
from timed import estimated, net, timed

STEM = {"flops": 30, "other_flops": 6, "memory_traffic": 8, "activations": 5, "launches": 2}


def test_what_is_beyond_work():
    # Intensity: (30 + 6) FLOPs / 8 bytes. Parallelism: (30 + 6) FLOPs / 3 steps.
    one = net(STEM, depth=3, peak_memory=100)
    assert (one.activations, one.memory_traffic, one.depth, one.peak_memory) == (5, 8, 3, 100)
    assert one.launches == 2
    assert one.arithmetic_intensity == Fraction(36, 8)
    assert one.average_parallelism == 12
    assert one["stem"].arithmetic_intensity == Fraction(36, 8)
    assert one["stem"].activations == 5


def test_modules_by_path():
    one = net(STEM)
    assert "stem" in one
    assert "tail" not in one
    with pytest.raises(KeyError, match="no module 0 in"):
        one[0]


def test_time_of_a_device():
    # ns: 900 + 300 + 2 * 100 for the model, 900 + 100 for the stem.
    assert (estimated().time("A100"), estimated()["stem"].time("A100")) == (1400, 1000)
    with pytest.raises(KeyError, match=r"time\[T4\].*was not measured"):
        estimated().time("T4")


def test_a_device_is_named():
    with pytest.raises(KeyError, match=r"'time\[T4\]' was not measured; there are .*time\[A100\]"):
        estimated().value("time[T4]")


def test_latency_of_this_machine():
    assert timed(5).value("latency") == 5
    assert timed(1000, 101).timing.spread_ns == 101


def test_a_ratio_over_nothing_says_so():
    with pytest.raises(KeyError, match="divided by another metric, which is 0"):
        _ = net({"flops": 1, "other_flops": 0, "memory_traffic": 0}).arithmetic_intensity


def test_modules_have_no_depth():
    with pytest.raises(KeyError, match="depth"):
        net(STEM, depth=3)["stem"].value("depth")
