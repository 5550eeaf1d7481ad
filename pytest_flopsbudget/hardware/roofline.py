"""The roofline model: the minimum time of an operator on a device, from its arithmetic and the bytes that it moves.

S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model for multicore architectures",
Communications of the ACM 52(4), 2009. No device exceeds its peak rates, so every computed time is a lower bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from pytest_flopsbudget.hardware.profile import Device

Bound = Literal["compute", "memory", "launch"]

_NANOSECONDS = 10**9


class Times(NamedTuple):
    """The minimum time of operators, by cause, in whole nanoseconds. The estimate is the sum of the three times."""

    #: The time of operators whose arithmetic takes longer than moving their bytes.
    compute: int
    #: The time of operators for which moving their bytes takes longer than their arithmetic.
    memory: int
    #: The time of launches, which operators take in addition to their work.
    launch: int


def times(device: Device, flops: int, other_flops: int, bytes_moved: int, dtype: str, launches: int = 1) -> Times:  # noqa: PLR0913, PLR0917 -- the facts about an operator
    """Return the minimum time of one operator on ``device``.

    Products, other arithmetic and the movement of bytes may run at the same time, so only the longest of the three
    times counts: ``compute`` or ``memory`` is 0. The time of launches is added. All times are rounded down, so sums of
    times are lower bounds.

    Args:
        device: the device that runs the operator.
        flops: the FLOPs of the operator's products.
        other_flops: the FLOPs of the operator's other arithmetic.
        bytes_moved: the bytes that the operator reads and writes.
        dtype: the dtype of the arithmetic in PyTorch's spelling, such as "float32". "tfloat32" is FP32 with products in
            TF32.
        launches: the number of the operator's kernel launches.
    """
    compute = max(
        flops * _NANOSECONDS // device.rate(dtype) if flops else 0,
        other_flops * _NANOSECONDS // device.vector_rate(dtype) if other_flops else 0,
    )
    memory = bytes_moved * _NANOSECONDS // device.bandwidth
    launch = launches * device.launch
    return Times(compute, 0, launch) if compute >= memory else Times(0, memory, launch)


def bound_of(compute: int, memory: int, launch: int) -> Bound:
    """Return the cause that takes the most time. Among equal times, the first parameter wins."""
    if compute >= memory and compute >= launch:
        return "compute"
    return "memory" if memory >= launch else "launch"
