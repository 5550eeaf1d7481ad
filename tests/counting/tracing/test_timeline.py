"""The bytes alive over the course of a run."""

from __future__ import annotations

import torch
from torch import nn

from pytest_flopsbudget import measure
from pytest_flopsbudget.counting.tracing.timeline import Timeline, keeping_timelines


def test_every_value_while_there_is_room():
    line = Timeline()
    for alive in (3, 1, 2):
        line.add(alive)
    line.close()
    assert line.points == [3, 1, 2]


def test_a_long_run():
    """A run of 1,000 operators has at most 400 points, and each point is the maximum of its part."""
    line = Timeline()
    for alive in range(1000):
        line.add(alive)
    line.close()
    # Four operators share a point: 0 to 3, 4 to 7, ...
    assert line.points == [*range(3, 1000, 4)]


def test_of_a_model():
    # 4 x 4 weights and an input of 4 numbers are 80 bytes; each product adds 16 bytes, and the input of the second
    # one is freed when its output is there.
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU())
    with keeping_timelines(True):
        complexity = measure(model, torch.zeros(1, 4))
    assert complexity.memory_over_time[-2:] == (96, 112)
    assert max(complexity.memory_over_time) == complexity.peak_memory == 112


def test_not_kept_by_default():
    assert measure(nn.Linear(4, 4), torch.zeros(1, 4)).memory_over_time == ()
