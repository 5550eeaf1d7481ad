"""Equal parts of many measurements become one object."""

from __future__ import annotations

import pytest

from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module, Operator, Phase
from pytest_flopsbudget.results.sharing import SharedParts


def measurement(**changed):
    """Build a measurement from new objects. ``changed`` are fields of its module, its operator or its metrics."""
    module = {"type": "Linear", "shape": "4->4", "calls": 1} | {
        key: value for key, value in changed.items() if key in {"type", "shape", "outputs"}
    }
    calls = changed.get("calls", 1)
    metrics = {"flops": 64, "params": 20} | changed.get("metrics", {})
    return Complexity(
        model="Net",
        inputs=("float32[2, 4]",),
        execution="watched",
        metrics=dict(metrics),
        modules={"": Module(**module, metrics=dict(metrics))},
        operators={"aten.mm": Operator(calls=calls, metrics=dict(metrics))},
        phases={"forward": Phase(metrics=dict(metrics)), "backward": Phase(metrics=dict(metrics))},
    )


def test_equal_parts_are_one_object():
    parts = SharedParts()
    first, second = parts.share(measurement()), parts.share(measurement())
    assert first == second == measurement()
    assert first.modules[""] is second.modules[""]
    assert first.operators["aten.mm"] is second.operators["aten.mm"]
    assert first.phases["forward"] is second.phases["forward"] is second.phases["backward"]


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "Bilinear"},
        {"shape": "4->5"},
        {"outputs": ("float32[2, 4]",)},
        {"calls": 2},
        {"metrics": {"flops": 65}},
        {"metrics": {"flops": 20, "params": 64}},
        {"metrics": {"other_flops": 0}},
        {"metrics": {"flops": 10**30}},
    ],
    ids=str,
)
def test_parts_that_differ_stay_different(changed):
    parts = SharedParts()
    parts.share(measurement())
    assert parts.share(measurement(**changed)) == measurement(**changed) != measurement()


def test_order_of_metrics_is_kept():
    """If two dicts of metrics differ only in order, they do not become one object, because reports show the order."""
    parts, other = SharedParts(), measurement()
    parts.share(measurement())
    other.operators["aten.mm"].metrics["flops"] = other.operators["aten.mm"].metrics.pop("flops")
    assert [*parts.share(other).operators["aten.mm"].metrics] == ["params", "flops"]
