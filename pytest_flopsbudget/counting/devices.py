"""Devices as whoever measures names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.hardware.devices import device_named

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flopsbudget.hardware.device import Device


def devices_of(devices: Iterable[str | Device]) -> tuple[Device, ...]:
    """The devices that are meant, each once.

    Raises:
        UsageError: no device has one of the names.
    """
    try:
        found = [device_named(device) if isinstance(device, str) else device for device in devices]
    except ValueError as error:
        raise UsageError(f"devices: {error}") from None
    return tuple({device.name: device for device in found}.values())
