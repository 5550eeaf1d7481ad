"""Measurements that are built without a model, for tests of explanations."""

from __future__ import annotations

from pytest_flopsbudget.hardware.profile import Device
from pytest_flopsbudget.quantities.metrics import key_for
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module, Operator

#: 10 FLOPs per ns in FP32, 40 in BF16, 1 byte per ns. In FP32, products are compute-bound from 10 FLOPs/byte on.
DEVICE = Device(
    "chip",
    rates={"float32": 10 * 10**9, "bfloat16": 40 * 10**9},
    vector_rates={"float32": 10 * 10**9},
    bandwidth=10**9,
    memory=10**6,
    launch=100,
)
SUMS = ("flops", "other_flops", "memory_traffic", "launches", "params", "param_bytes")


def metrics(*, flops=0, other=0, traffic=0, launches=1, params=0, param_bytes=None, times=None):
    """Return the metrics of one module. ``times`` are its (compute, memory, launch) times on `DEVICE`."""
    values = (flops, other, traffic, launches, params, 4 * params if param_bytes is None else param_bytes)
    found = dict(zip(SUMS, values, strict=True))
    parts = ("compute_time", "memory_time", "launch_time")
    return found | {key_for(part, DEVICE.name): time for part, time in zip(parts, times or (), strict=bool(times))}


def added(*several):
    return {key: sum(one[key] for one in several) for key in several[0]}


def leaf(kind, shape="", calls=1, **values):
    return Module(type=kind, shape=shape, calls=calls, metrics=metrics(**values))


def complexity(modules, operators=(), total=None, **fields):
    """Build a measurement from its modules. By default, its totals are the metrics of the root module."""
    fields = {"model": "Net", "inputs": ("float32[1]",), "execution": "shapes"} | fields
    found = {name: Operator(calls=calls, metrics=values) for name, calls, values in operators}
    return Complexity(metrics=total or modules[""].metrics, modules=modules, operators=found, **fields)


def single(module, operators=(), **fields):
    """Build the measurement of a model with a single module, "layer"."""
    whole = Module(type="Net", calls=1, metrics=module.metrics)
    return complexity({"": whole, "layer": module}, operators, **fields)


def blocks():
    """Build a measurement of two equal blocks and a head. A block has a linear layer and a residual addition."""
    linear = metrics(flops=200, traffic=300, params=50, times=(20, 0, 100))
    add = metrics(other=10, traffic=120, times=(0, 120, 100))
    head = metrics(flops=100, traffic=1000, params=100, times=(0, 1000, 100))
    block = added(linear, add)
    whole = added(block, block, head)
    modules = {"": Module(type="Net", calls=1, metrics=whole)}
    for path in ("layers.0", "layers.1"):
        modules[path] = Module(type="Block", calls=1, metrics=block)
        modules[f"{path}.linear"] = Module(type="Linear", shape="5->10", calls=1, metrics=linear)
    modules["head"] = Module(type="Linear", shape="10->10", calls=1, metrics=head)
    modules["layers"] = Module(type="ModuleList", calls=0, metrics=added(block, block))
    operators = [
        ("aten.mm", 3, {"flops": 500, "other_flops": 0, "memory_traffic": 1600, "launches": 3}),
        ("aten.add", 2, {"flops": 0, "other_flops": 20, "memory_traffic": 240, "launches": 2}),
    ]
    return complexity(modules, operators)
