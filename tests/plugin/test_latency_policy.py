"""The settings decide whether and how a measurement is timed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flopsbudget.counting.inputs import Inputs
from pytest_flopsbudget.counting.latency import benchmark
from pytest_flopsbudget.counting.latency.benchmark import TimedModel
from pytest_flopsbudget.counting.latency.measured_call import measure_inputs
from pytest_flopsbudget.hardware.catalog import DEVICES
from pytest_flopsbudget.hardware.roofline import times
from pytest_flopsbudget.plugin.latency_policy import LatencyPolicy
from pytest_flopsbudget.results.data import Latency

MODEL, INPUTS = nn.Linear(4, 5), Inputs((torch.ones(3, 4),), {})
#: FLOPs of the layer's product, its other FLOPs, and the bytes of its operands.
WORK = 2 * 3 * 4 * 5, 3 * 5, 4 * (3 * 4 + 4 * 5 + 5 + 3 * 5)


@pytest.fixture
def asked(monkeypatch):
    """Replace the timing by a fixed time of 4 us on an A100. Return the arguments with which it was called."""
    asked_for = {}

    def time_inputs(model, inputs, *, machine, **options):
        asked_for.update(options, machine=machine, model=model, inputs=inputs)
        measured = Latency(
            machine=machine or "NVIDIA A100-SXM4-40GB", median_ns=4_000, q1_ns=3_900, q3_ns=4_100, runs=50, threads=2
        )
        return TimedModel(measured, "NVIDIA A100-SXM4-40GB")

    monkeypatch.setattr(benchmark, "time_inputs", time_inputs)
    return asked_for


def timed(timing):
    measured = measure_inputs(MODEL, INPUTS)
    return measured.complexity, timing.add_latency(measured)


def share(device):
    """Return the estimated time of the model on ``device``, divided by 4 us."""
    return sum(times(device, *WORK, "float32")) / 4_000


def test_adds_the_latency(asked):
    complexity, found = timed(LatencyPolicy(run_time=0.5))
    assert complexity.metrics | {"latency[NVIDIA A100-SXM4-40GB]": 4_000} == found.metrics
    assert (found.timing.q1_ns, found.timing.q3_ns, found.notes) == (3_900, 4_100, complexity.notes)
    assert complexity.modules == found.modules
    assert asked == {
        "model": MODEL,
        "inputs": INPUTS,
        "backward": False,
        "run_time": 0.5,
        "machine": None,
    }


@pytest.mark.usefixtures("asked")
class TestProfiles:
    def test_a_known_device(self):
        """The profile is found by the name that the driver reports."""
        _, found = timed(LatencyPolicy(machine="ci-runner"))
        assert found.timing.machine == "ci-runner"
        assert found.timing.share_of_roofline == share(DEVICES["A100"])
        assert found.timing.mfu == WORK[0] * 10**9 / (DEVICES["A100"].rate("float32") * 4_000)
        assert not any(key.startswith("compute_time") for key in found.metrics)

    def test_own_ones_by_their_names(self):
        """If the project has its own profile of the device, this profile has priority over the catalog."""
        own = _own("mine", names=("NVIDIA A100-SXM4-40GB",))
        assert timed(LatencyPolicy(devices={"mine": own}))[1].timing.share_of_roofline == share(own)

    def test_own_ones_by_what_the_machine_is_called(self):
        """A project's own profile is also found by the machine's name in the settings."""
        own = _own("CI-runner")
        _, found = timed(LatencyPolicy(machine="ci-runner", devices={"other": _own("other"), "CI-runner": own}))
        assert found.timing.share_of_roofline == share(own)

    def test_nobody_knows_it(self, monkeypatch):
        measured = Latency(machine="Abacus", median_ns=4_000, q1_ns=1, q3_ns=9, runs=5, threads=2)
        monkeypatch.setattr(benchmark, "time_inputs", lambda *_, **_options: TimedModel(measured, "Abacus"))
        assert timed(LatencyPolicy(devices={"other": _own("other")}))[1].timing == measured


def _own(name, names=()):
    from dataclasses import replace

    return replace(DEVICES["raspberry-pi-4"], name=name, names=names)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        (0, ()),
        (1, ("the latency was measured beside 1 other process of pytest-xdist, so that they shared the machine",)),
        (3, ("the latency was measured beside 3 other processes of pytest-xdist, so that they shared the machine",)),
    ],
)
def test_others_at_work(beside, expected):
    """If other processes ran at the same time, a note says so."""
    assert expected == timed(LatencyPolicy(concurrent_processes=beside))[1].notes
