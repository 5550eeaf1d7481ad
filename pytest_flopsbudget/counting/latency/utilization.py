"""Utilization: the share of the roofline that a measured latency reaches, and the model FLOPs utilization (MFU)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_flopsbudget.hardware.roofline import times

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.counting.operators.work import Work
    from pytest_flopsbudget.counting.tracing.nodes import Node
    from pytest_flopsbudget.counting.tracing.tracer import WorkPhase
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.data import Latency


_NANOSECONDS = 10**9


def add_utilization(latency: Latency, counted: Mapping[tuple[Node, Work, WorkPhase], int], device: Device) -> Latency:
    """Return ``latency`` with its share of the roofline of ``device`` and its model FLOPs utilization.

    The model FLOPs utilization divides the FLOPs of matrix products per second by the device's rate of products. The
    rate is that of the dtype with most of these FLOPs. Recomputed products are left out. Source: A. Chowdhery et al.,
    "PaLM", 2022, appendix B.

    Args:
        latency: the latency that was measured on the device.
        counted: the operators of the same run: (module, work, phase) → number of calls.
        device: the profile of the machine.
    """
    roofline = 0
    products: Counter[str] = Counter()
    for (_, work, when), count in counted.items():
        each = times(device, work.flops, work.other_flops, work.memory_traffic, work.dtype, work.launches)
        roofline += sum(each) * count
        if when != "recomputed":
            products[work.dtype] += work.flops * count
    if not latency.median_ns:
        return latency
    flops = sum(products.values())
    dtype = max(products, key=lambda one: products[one], default="")
    best = device.rate(dtype) * latency.median_ns
    return replace(
        latency,
        share_of_roofline=roofline / latency.median_ns,
        mfu=flops * _NANOSECONDS / best if flops else None,
    )
