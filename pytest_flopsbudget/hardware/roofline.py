"""The roofline: what an operator takes at least on a device, by its arithmetic and by the bytes that it moves.

S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model for multicore architectures",
Communications of the ACM 52(4), 2009. Peaks are never exceeded, so that every time here is a lower bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from pytest_flopsbudget.hardware.profile import Device

Bound = Literal["compute", "memory", "launch"]

_NANOSECONDS = 10**9


class Times(NamedTuple):
    """The least time of operators, in whole nanoseconds, by what takes it; their sum is the estimate."""

    #: Where arithmetic takes longer than moving bytes, what it takes; else 0.
    compute: int
    #: Where moving bytes takes longer, what it takes; else 0.
    memory: int
    #: What passes for every operator beside its work.
    launch: int


def times(device: Device, flops: int, other_flops: int, bytes_moved: int, dtype: str, launches: int = 1) -> Times:  # noqa: PLR0913, PLR0917 -- what an operator is
    """What one operator takes at least on ``device``.

    Arithmetic takes as long as the slower of products and the rest, which may run side by side; and so may arithmetic
    and moving bytes. Times are rounded down, so that sums of them are lower bounds too.

    Args:
        device: where it runs.
        flops: of its products.
        other_flops: of all else that it computes.
        bytes_moved: that it reads and writes.
        dtype: in which it computes, as PyTorch writes it, "float32"; or "tfloat32", FP32 with products in TF32.
        launches: how many operators the device sees.
    """
    compute = max(
        flops * _NANOSECONDS // device.rate(dtype) if flops else 0,
        other_flops * _NANOSECONDS // device.vector_rate(dtype) if other_flops else 0,
    )
    memory = bytes_moved * _NANOSECONDS // device.bandwidth
    launch = launches * device.launch
    return Times(compute, 0, launch) if compute >= memory else Times(0, memory, launch)


def bound_of(compute: int, memory: int, launch: int) -> Bound:
    """What takes most of the time; of equals, the first in this order."""
    if compute >= memory and compute >= launch:
        return "compute"
    return "memory" if memory >= launch else "launch"
