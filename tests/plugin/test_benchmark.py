"""Tests that time their model with pytest-benchmark, which calls it as often as the clock allows."""

from __future__ import annotations

import importlib.util

import pytest
from conftest import NET_FLOPS

from pytest_flopsbudget.storage.baseline import load

#: Replaces the fixture of pytest-benchmark if it is not installed. It makes the calls that pytest-benchmark makes.
STAND_IN = """
import pytest


class Benchmark:
    def _make_runner(self, function, args, kwargs):
        def runner(loops):
            if not loops:
                return 0.1, function(*args, **kwargs)
            for _ in loops:
                function(*args, **kwargs)
            return 0.1

        return runner

    def __call__(self, function, *args, **kwargs):
        runner = self._make_runner(function, args, kwargs)
        for loops in (1, 10, 10):
            runner(range(loops))
        return function(*args, **kwargs)

    def pedantic(self, function, args=(), kwargs=None, rounds=1, warmup_rounds=0, iterations=1):
        loops = range(iterations) if iterations > 1 else None
        for _ in range(warmup_rounds + rounds):
            result = self._make_runner(function, args, kwargs or {})(loops)
        return function(*args, **(kwargs or {})) if loops else result[1]


@pytest.fixture
def benchmark():
    return Benchmark()
"""


@pytest.fixture
def flops(project):
    """Return a function that runs the body of a test, and returns {name of a measurement: FLOPs}."""

    def flops(body, fixtures="benchmark"):
        if importlib.util.find_spec("pytest_benchmark") is None:
            project.pytester.makeconftest(STAND_IN)
        project.write(f"@pytest.mark.flops_budget\ndef test_net({fixtures}):\n    net = Net()\n    {body}\n")
        result = project.run("--flops-budget-update")
        result.assert_outcomes(passed=1)
        found = load(project.baseline).tests["test_net"]
        return {name: entry.metrics["flops"] for name, entry in found.items()}

    return flops


@pytest.mark.parametrize(
    "call",
    [
        "assert benchmark(net, IMAGE).shape == (1, 10)",
        "assert benchmark.pedantic(net, args=(IMAGE,), rounds=3).shape == (1, 10)",
        "benchmark.pedantic(net, args=(IMAGE,), rounds=3, warmup_rounds=2)",
        "benchmark.pedantic(net, args=(IMAGE,), rounds=3, iterations=4)",
    ],
)
def test_one_call_is_counted(flops, call):
    assert flops(call) == {"model": NET_FLOPS}


def test_what_is_computed_besides(flops):
    assert flops("net(IMAGE); benchmark(net, IMAGE); net(IMAGE)") == {"model": 3 * NET_FLOPS}


def test_in_a_watched_block(flops):
    body = "with flops_budget.watch('timed'): benchmark(net, IMAGE)"
    assert flops(body, "benchmark, flops_budget") == {"timed": NET_FLOPS}


def test_beside_the_fixture(flops):
    body = "flops_budget(net, IMAGE); benchmark(net, IMAGE)"
    assert flops(body, "benchmark, flops_budget") == {"model": NET_FLOPS}
