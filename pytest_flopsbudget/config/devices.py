"""Read the devices of the pyproject: the project's own profiles, and the devices on which to estimate times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_flopsbudget.hardware.catalog import find_device
from pytest_flopsbudget.hardware.profile import DTYPES, Device
from pytest_flopsbudget.quantities.metrics import METRICS, Metric
from pytest_flopsbudget.quantities.parsing import parse_quantity, quote_value
from pytest_flopsbudget.quantities.rates import parse_rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flopsbudget.config.problems import Problems


_VECTOR = "vector-"
_VECTOR_KEYS = tuple(f"{_VECTOR}{dtype}" for dtype in DTYPES)
_KEYS = ("based-on", *DTYPES, *_VECTOR_KEYS, "bandwidth", "memory", "launch", "names")
_LAUNCH = Metric("launch", "launch", "ns", "sum", "the time that each operator takes in addition to its work")
_PROFILE = "[tool.pytest-flopsbudget.devices.NAME]"

#: Key of a profile → the function that reads the value of the key.
_READERS: Mapping[str, Callable[[object], int]] = {
    **dict.fromkeys((*DTYPES, *_VECTOR_KEYS), lambda value: parse_rate(value, "FLOP/s")),
    "bandwidth": lambda value: parse_rate(value, "B/s"),
    "memory": lambda value: parse_quantity(value, METRICS["param_bytes"]),
    "launch": lambda value: parse_quantity(value, _LAUNCH),
}


def read_devices(value: object, problems: Problems) -> Mapping[str, Device]:
    """Return name → profile for ``[tool.pytest-flopsbudget.devices]``, without profiles that have mistakes.

    Args:
        value: the value of the key ``devices``.
        problems: collects messages on mistakes, for the table that contains the key ``devices``.
    """
    if not isinstance(value, Mapping):
        problems.add(
            "devices",
            f"{quote_value(value)} is no table of profiles; write {_PROFILE}, and names of devices in time-on",
        )
        return {}
    here = problems.inside("devices")
    devices: dict[str, Device] = {}
    for name, profile in value.items():
        if not name or name != name.strip() or set(name) & set("[]"):
            here.add(
                name,
                "is no name of a device: write at least one character, no blanks around it, and no brackets",
            )
        elif name.casefold() in map(str.casefold, devices):
            here.add(name, "another profile has this name with other capital letters; rename one of them")
        elif not isinstance(profile, Mapping):
            here.add(
                name, f'{quote_value(profile)} is no profile; write {{float32 = "50 GFLOP/s", bandwidth = "17 GB/s"}}'
            )
        else:
            device = _read_profile(name, profile, here, devices)
            if device is not None:
                devices[name] = device
    return devices


def read_time_on(value: object, devices: Mapping[str, Device], problems: Problems) -> tuple[str, ...]:
    """Return the names of the devices for which every measurement estimates a time, in the spelling of the profiles.

    Args:
        value: the value of the key ``time-on``: a name, or a list of names.
        devices: the project's own profiles.
        problems: collects messages on mistakes, for the table that contains the key ``time-on``.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problems.add(
            "time-on",
            f'{quote_value(value)} is no name of a device, nor a list of them; write ["A100", "raspberry-pi-5"]',
        )
        return ()
    found = [_find(name, devices, "time-on", problems) for name in names]
    return tuple(dict.fromkeys(device.name for device in found if device is not None))


def _read_profile(
    name: str, profile: Mapping[str, object], problems: Problems, devices: Mapping[str, Device]
) -> Device | None:
    """Return the device profile ``name``; None if the profile has mistakes.

    A profile may be based on a device of the catalog, or on one of ``devices``, the profiles that were read before.
    """
    here = problems.inside(name)
    before = len(here.messages)
    base = _read_base(profile["based-on"], here, devices) if "based-on" in profile else _empty_profile(name)
    figures = {}
    names: tuple[str, ...] = ()
    for key, value in profile.items():
        if key in _READERS:
            try:
                figures[key] = _READERS[key](value)
            except ValueError as error:
                here.add(key, error)
        elif key == "names":
            names = _read_names(value, here)
        elif key != "based-on":
            here.add_unknown_key(key, _KEYS)
    if base is None or len(here.messages) > before:
        return None
    device = replace(
        base,
        name=name,
        rates={**base.rates, **{key: figures[key] for key in DTYPES if key in figures}},
        vector_rates={
            **base.vector_rates,
            **{key.removeprefix(_VECTOR): figures[key] for key in _VECTOR_KEYS if key in figures},
        },
        bandwidth=figures.get("bandwidth", base.bandwidth),
        memory=figures.get("memory", base.memory),
        launch=figures.get("launch", base.launch),
        names=names,
        sources=(),
    )
    if not device.rates:
        problems.add(name, 'has no rate of products; write one, like float32 = "50 GFLOP/s", or based-on = "A100"')
    if not device.bandwidth:
        problems.add(name, 'has no bandwidth; write bandwidth = "17 GB/s", or based-on = "A100"')
    return device if device.rates and device.bandwidth else None


def _read_names(value: object, problems: Problems) -> tuple[str, ...]:
    """Return the names by which drivers and systems report the device."""
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list) and all(isinstance(name, str) and name.strip("$ ") for name in names):
        return tuple(names)
    problems.add(
        "names",
        f"{quote_value(value)} is no name that the system gives the device, nor "
        'a list of them; write ["AMD EPYC 7763"]',
    )
    return ()


def _read_base(value: object, problems: Problems, devices: Mapping[str, Device]) -> Device | None:
    if not isinstance(value, str):
        problems.add("based-on", f'{quote_value(value)} is no name of a device; write based-on = "A100"')
        return None
    return _find(value, devices, "based-on", problems)


def _find(name: str, devices: Mapping[str, Device], key: str, problems: Problems) -> Device | None:
    """Return the device called ``name``. If there is none, add a message on the value of ``key`` and return None."""
    try:
        return find_device(name, devices)
    except ValueError as error:
        problems.add(key, f"{error}; or write a profile, {_PROFILE}")
        return None


def _empty_profile(name: str) -> Device:
    """Return the profile that every profile without ``based-on`` starts from. It has no rates and no launch time."""
    return Device(name, rates={}, vector_rates={}, bandwidth=0, memory=None, launch=0)
