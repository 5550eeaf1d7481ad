"""What a device can serve at best, from the counts of a step, with any kernels."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.hardware.profile import Device

_NANOSECONDS = 10**9


def least_time(device: Device, products: Mapping[str, int], bytes_read: int) -> Fraction:
    """Return the least time of a step in nanoseconds.

    All products take their FLOPs at the peak rate of their dtype. All weights and the cache pass from the memory to the
    cores once. The two may overlap, so the longer one counts. Other arithmetic, activations and launches are left out,
    because kernels can fuse and hide them.

    Args:
        device: the device.
        products: dtype → FLOPs of products in this dtype.
        bytes_read: the bytes of weights and cache that the step reads.
    """
    compute = sum((Fraction(flops, device.rate(dtype)) for dtype, flops in products.items()), Fraction(0))
    return max(compute, Fraction(bytes_read, device.bandwidth)) * _NANOSECONDS


def tokens_per_second(device: Device, batch: int, products: Mapping[str, int], bytes_read: int) -> int | None:
    """Return the most tokens that all ``batch`` requests together get a second; None for a step that does nothing."""
    step = least_time(device, products, bytes_read)
    return int(batch * _NANOSECONDS / step) if step else None


def requests_that_fit(device: Device, weights: int, cache: Fraction) -> int | None:
    """Return how many requests fit into the device's memory beside the weights.

    Args:
        device: the device.
        weights: the bytes of the weights.
        cache: the bytes of the cache of one request.

    Returns:
        The number of requests; None if the memory is unknown, or if a request has no cache.
    """
    if device.memory is None or not cache:
        return None
    return max(0, int((device.memory - weights) / cache))
