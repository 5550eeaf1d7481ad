"""The energy of a training run, as an interval that follows from stated assumptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Device → (watts, source): the power that the device is allowed to draw.
POWER: Mapping[str, tuple[int, str]] = {
    "V100": (300, "NVIDIA V100 data sheet, SXM2"),
    "A100": (400, "NVIDIA A100 data sheet, SXM"),
    "A100-80GB": (400, "NVIDIA A100 data sheet, SXM"),
    "H100": (700, "NVIDIA H100 data sheet, SXM"),
    "H200": (700, "NVIDIA H200 data sheet, SXM"),
    "MI300X": (750, "AMD Instinct MI300X data sheet"),
}
#: Assumptions: the share of its power that a device draws on average, what the rest of the server adds to a device's
#: power, and what cooling and distribution of a data center add to all of it (PUE).
LOAD = (0.5, 1.0)
SERVER = (1.1, 1.6)
OVERHEAD = (1.1, 1.6)


@dataclass(frozen=True, slots=True)
class Energy:
    """An interval of energy, in watt hours, and the power that it follows from."""

    low: float
    high: float
    watts: int
    #: Where the power comes from.
    source: str

    @property
    def assumptions(self) -> str:
        """The assumptions in one sentence."""
        return (
            f"{self.watts:,} W a device ({self.source}); assumed, not measured: {LOAD[0]:.0%} to {LOAD[1]:.0%} of it "
            f"on average, times {SERVER[0]} to {SERVER[1]} for the rest of the server, times a PUE of {OVERHEAD[0]} "
            f"to {OVERHEAD[1]}"
        )


def energy(device_hours: float, device: str, watts: int | None = None) -> Energy:
    """Return the energy of some hours of one device.

    Args:
        device_hours: the hours that all devices run, added up.
        device: the name of the device.
        watts: the power of a device; None for the power in `POWER`.

    Raises:
        UsageError: the power is unknown.
    """
    source = "given"
    if watts is None:
        if device not in POWER:
            raise UsageError(
                f"the power of {device} is unknown; give it: watts=..., or --watts N on the command line (known: "
                f"{', '.join(POWER)})"
            )
        watts, source = POWER[device]
    full = device_hours * watts
    low, high = (full * LOAD[end] * SERVER[end] * OVERHEAD[end] for end in (0, 1))
    return Energy(low, high, watts, source)
