"""Model FLOPs utilization from a throughput: FLOPs per token, times tokens per second, divided by peak FLOP/s."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.hardware.catalog import resolve_devices
from pytest_flopsbudget.hardware.profile import DTYPES
from pytest_flopsbudget.quantities.parsing import nearest_spelling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.hardware.profile import Device


@dataclass(frozen=True, slots=True)
class Utilization:
    """The utilization of some devices, by each convention. A value of 1 is all of their peak rate."""

    #: The convention that the caller chose.
    convention: str
    #: Convention → utilization.
    by_convention: Mapping[str, float]
    #: Convention → why it has no value.
    unknown: Mapping[str, str]
    device: str
    devices: int
    dtype: str
    #: The peak FLOP/s of one device in products of the dtype.
    rate: int
    tokens_per_second: float
    #: Whether recomputed products are included: the value is then the hardware FLOPs utilization (HFU).
    recompute: bool = False

    @property
    def value(self) -> float:
        """The utilization by the chosen convention."""
        return self.by_convention[self.convention]

    @property
    def lowest(self) -> float:
        """The smallest utilization of all conventions."""
        return min(self.by_convention.values())

    @property
    def highest(self) -> float:
        """The largest utilization of all conventions."""
        return max(self.by_convention.values())

    def __float__(self) -> float:
        return self.value

    def text(self) -> str:
        """Return the utilization in one line, with its range over the conventions and a warning above 100 %."""
        name = "HFU" if self.recompute else "MFU"
        low = min(self.by_convention, key=lambda key: self.by_convention[key])
        high = max(self.by_convention, key=lambda key: self.by_convention[key])
        count = f"{self.devices:,} x " if self.devices > 1 else ""
        text = (
            f"{name} {self.value:.2%} ({self.convention}) at {self.tokens_per_second:,g} tokens/s on "
            f"{count}{self.device}, {self.rate / 10**12:,g} TFLOP/s in {self.dtype}; by convention from "
            f"{self.lowest:.2%} ({low}) to {self.highest:.2%} ({high})"
        )
        return f"{text}; {self._impossible()}" if self.value > 1 else text

    def _impossible(self) -> str:
        return (
            "more than 100% is impossible: are the tokens per second those of more devices, is the dtype that of the "
            "products, does the formula count more than the model computes?"
        )

    def __str__(self) -> str:
        return self.text()


def utilization(  # noqa: PLR0913 -- what a utilization depends on
    per_token: Mapping[str, Fraction],
    unknown: Mapping[str, str],
    *,
    tokens_per_second: float | Fraction,
    device: str | Device,
    convention: str,
    dtype: str,
    devices: int,
    recompute: bool,
) -> Utilization:
    """Return the utilization by each convention. See `TrainingFlops.mfu` for the arguments.

    Raises:
        UsageError: there is no such device, it has no rate for the dtype, or a number is not above 0.
    """
    (profile,) = resolve_devices([device])
    rate = peak_rate(profile, dtype)
    if not (math.isfinite(tokens_per_second) and tokens_per_second > 0):
        raise UsageError(f"mfu: {tokens_per_second} tokens per second; write a number above 0")
    if type(devices) is not int or devices < 1:
        raise UsageError(f"mfu: {devices!r} devices; write a whole number from 1 on")
    peak = rate * devices
    return Utilization(
        convention,
        {key: float(flops * Fraction(tokens_per_second) / peak) for key, flops in per_token.items()},
        dict(unknown),
        profile.name,
        devices,
        dtype,
        rate,
        float(tokens_per_second),
        recompute,
    )


def peak_rate(device: Device, dtype: str) -> int:
    """Return the peak FLOP/s of a device in products of a dtype.

    Raises:
        UsageError: the dtype is unknown, or the profile has no rate for it. Another dtype's rate is not taken, because
            a utilization of a guessed rate has no meaning.
    """
    rate = device.rates.get(dtype)
    if rate is not None:
        return rate
    known = ", ".join(device.rates)
    if dtype not in DTYPES:
        near = nearest_spelling(dtype, DTYPES)
        hint = f"did you mean {near}?" if near else f"there are {known}"
        raise UsageError(f"no dtype {dtype!r}; {hint}")
    raise UsageError(f"{device.name} has no rate for {dtype}; there are {known}")
