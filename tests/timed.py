"""Measurements with metrics other than FLOPs: memory, traffic, depth, estimated times and a latency."""

from __future__ import annotations

from msgspec.structs import replace

from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Latency, MemoryAtPeak, Module, Operator


def times(compute, memory, launch, device="A100"):
    """Return the stored parts of a time on ``device``, in nanoseconds."""
    return {f"compute_time[{device}]": compute, f"memory_time[{device}]": memory, f"launch_time[{device}]": launch}


def net(stem=None, head=None, **metrics):
    """Build the measurement of a model with two layers. ``stem`` and ``head`` are the metrics of the layers."""
    keys = dict.fromkeys((*(stem or {}), *(head or {})), 0)
    stem, head = keys | (stem or {}), keys | (head or {})
    total = {key: stem.get(key, 0) + head.get(key, 0) for key in (*stem, *head)} | metrics
    return Complexity(
        model="Net",
        inputs=("float32[1]",),
        execution="shapes",
        metrics=total,
        modules={
            "": Module(type="Net", calls=1, metrics=total),
            "stem": Module(type="Conv2d", shape="3->4, 3x3", calls=1, metrics=stem),
            "head": Module(type="Linear", shape="4->10", calls=1, metrics=head),
        },
        operators={"aten.mm": Operator(calls=1, metrics=head)},
    )


def estimated(device="A100", **parts):
    """Build the measurement of a model with estimated times: 1,400 ns in all, by default."""
    parts = {"compute": 900, "memory": 300, "launch": 100} | parts
    return net(
        {"flops": 2000, "params": 10} | times(parts["compute"], 0, parts["launch"], device),
        {"flops": 500, "params": 5} | times(0, parts["memory"], parts["launch"], device),
    )


def timed(median=1_000_000, spread=0, machine="box", complexity=None, **fields):
    """Build a measurement with a latency. ``spread`` is the distance between the quartiles around the median."""
    one = complexity or net({"flops": 2000, "params": 10}, {"flops": 500, "params": 5})
    fields = {"runs": 30, "threads": 1} | fields
    latency = Latency(
        machine=machine, median_ns=median, q1_ns=median - spread // 2, q3_ns=median + (spread + 1) // 2, **fields
    )
    return replace(one, metrics=one.metrics | {f"latency[{machine}]": median}, timing=latency)


def peaking(total=100, module="stem", **kinds):
    """Build a model whose memory peaks in ``module``. ``kinds`` are the bytes of each kind of memory."""
    kinds = kinds or {"activations": total}
    at_peak = MemoryAtPeak(total=total, operator="aten.convolution", module=module, **kinds)
    return replace(net({"flops": 2000, "params": 10}, peak_memory=total), memory_at_peak=at_peak)
