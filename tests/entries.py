"""Small baseline entries that are easy to tell apart."""

from __future__ import annotations

from build import laws

from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module, Operator


def net(width=1):
    """Return a baseline entry in which each line except the first depends on ``width``."""
    flops = {"flops": 10 * width, "params": width}
    return Complexity(
        model="Net",
        inputs=(f"float32[1, {width}]",),
        execution="shapes",
        metrics=flops,
        modules={
            "": Module(type="Net", calls=1, metrics=flops),
            "head": Module(type="Linear", shape=f"{width}->10", calls=1, metrics=flops),
        },
        laws=laws({"n": range(1, width + 2)}, {"flops": {"n": 5 * width}}, {"head": {"flops": {"n": 5 * width}}}),
        operators={"aten.addmm": Operator(calls=1, metrics={"flops": 10 * width})},
    )


def width_of(entries):
    return entries["model"].metrics["params"]
