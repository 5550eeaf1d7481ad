"""Read limits of markers and of the pyproject: by metric, by device, by module, by operator and by phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_flopsbudget.hardware.catalog import find_device
from pytest_flopsbudget.quantities.bounds import Bounds, parse_bounds
from pytest_flopsbudget.quantities.metrics import COMPARED, METRICS, compared_parts, key_for
from pytest_flopsbudget.quantities.parsing import quote_value

if TYPE_CHECKING:
    from pytest_flopsbudget.config.problems import Problems
    from pytest_flopsbudget.quantities.metrics import Metric


_PHASES = ("setup", "forward", "backward", "optimizer")


#: Why a baseline neither holds nor tolerates a metric.
NOT_IN_BASELINES = "is in no baseline; name metrics that are, such as flops or params"


def read_quantities(
    table: Mapping[str, object], problems: Problems, *, besides: tuple[str, ...] = ()
) -> Mapping[str, Bounds]:
    """Return metric key → limit, for each limit in ``table``. Messages on mistakes are added to ``problems``.

    A time has one limit for each device: ``{time = {A100 = "3 ms"}}`` gives "time[A100]". Keys in ``besides`` are
    skipped without a message.
    """
    quantities: dict[str, Bounds] = {}
    for key, value in table.items():
        if key in METRICS and METRICS[key].per == "device":
            quantities.update(_read_device_limits(key, value, problems))
        elif key in METRICS:
            try:
                quantities[key] = parse_bounds(value, METRICS[key])
            except ValueError as error:
                problems.add(key, error)
        elif key not in besides:
            problems.add_unknown_key(key, (*METRICS, *besides))
    return quantities


def read_hold(value: object, problems: Problems) -> tuple[str, ...]:
    """Return the metrics that the value of the key ``hold`` names. Messages on mistakes are added to ``problems``."""
    if value == "all":
        return COMPARED
    if not isinstance(value, (list, tuple)):
        problems.add("hold", f'{quote_value(value)} is no list of metrics; write ["flops", "params"], or "all"')
        return ()
    here = problems.inside("hold")
    held: list[str] = []
    for key in value:
        if not isinstance(key, str) or key not in METRICS:
            problems.add_unknown_choice("hold", key, filter(compared_parts, METRICS))
        elif METRICS[key].over:
            here.add(key, "is a ratio, which no baseline holds; hold the metrics behind it")
        elif not METRICS[key].in_baselines:
            here.add(key, NOT_IN_BASELINES)
        elif METRICS[key].of_serving and METRICS[key].per:
            here.add(key, "is a bound, which no baseline holds; hold kv_cache and bytes_read, from which it follows")
        elif not compared_parts(key):
            here.add(key, "is a part of time, and only the sum is compared; hold time")
        else:
            held += compared_parts(key)
    return tuple(dict.fromkeys(held))


def _read_device_limits(key: str, value: object, problems: Problems) -> Mapping[str, Bounds]:
    """Return "time[A100]" → limit, for each device in the table ``value``. ``key`` is a metric such as "time"."""
    if not isinstance(value, Mapping) or not value:
        example = {"count": "40", "tokens/s": '"1.2k tokens/s"'}.get(METRICS[key].unit, '"3 ms"')
        problems.add(key, f"{quote_value(value)} is not a table of limits by device; write {{A100 = {example}}}")
        return {}
    here = problems.inside(key)
    quantities = {}
    for written, limit in value.items():
        name = device_in(written, here, written)
        if name is None:
            continue
        if key_for(key, name) in quantities:
            here.add(written, f"is {name}, which has a limit in this table already")
            continue
        try:
            quantities[key_for(key, name)] = parse_bounds(limit, METRICS[key])
        except ValueError as error:
            here.add(written, error)
    return quantities


def device_in(written: object, problems: Problems, key: object) -> str | None:
    """Return the name of the device to which the text ``written`` refers, in the spelling of the device's profile.

    If there is no such device, add a message to ``problems`` and return None.
    """
    if not isinstance(written, str) or not written or "]" in written:
        problems.add(key, 'is no name of a device; write one like "A100"')
        return None
    try:
        return find_device(written, problems.devices).name
    except ValueError as error:
        problems.add(key, error)
        return None


def read_modules(value: object, problems: Problems) -> Mapping[str, Mapping[str, Bounds]]:
    """Return pattern of module paths → metric key → limit, from the value of the key ``modules``."""
    if not isinstance(value, Mapping):
        problems.add(
            "modules", f'{quote_value(value)} is not a table of limits by module; write {{layer4 = {{flops = "1.7G"}}}}'
        )
        return {}
    here = problems.inside("modules")
    modules = {}
    for pattern, limits in value.items():
        if not isinstance(pattern, str):
            here.add(pattern, 'is not text; write a pattern of module paths, like "layer4*"')
        elif not isinstance(limits, Mapping) or not limits:
            here.add(pattern, f'{quote_value(limits)} is not a table of limits; write {{flops = "1.7G"}}')
        else:
            rest = {key: value for key, value in limits.items() if key != "growth"}
            if rest:
                modules[pattern] = _read_module(pattern, rest, here)
    return modules


def read_phases(value: object, problems: Problems) -> Mapping[str, Mapping[str, Bounds]]:
    """Return phase → metric key → limit, from the value of the key ``phases``."""
    if not isinstance(value, Mapping):
        problems.add(
            "phases", f'{quote_value(value)} is not a table of limits by phase; write {{backward = {{flops = "20G"}}}}'
        )
        return {}
    here = problems.inside("phases")
    phases = {}
    for phase, limits in value.items():
        if phase not in _PHASES:
            here.add_unknown_key(phase, _PHASES)
        elif not isinstance(limits, Mapping) or not limits:
            here.add(phase, f'{quote_value(limits)} is not a table of limits; write {{flops = "20G"}}')
        else:
            phases[phase] = _read_work(limits, here.inside(phase), "a phase")
    return phases


def read_operators(value: object, problems: Problems) -> Mapping[str, Mapping[str, Bounds]]:
    """Return pattern of operators → metric key → limit, from the value of the key ``operators``."""
    if not isinstance(value, Mapping):
        problems.add(
            "operators",
            f'{quote_value(value)} is not a table of limits by operator; write {{"aten.mm" = {{flops = "8G"}}}}',
        )
        return {}
    here = problems.inside("operators")
    operators = {}
    for pattern, limits in value.items():
        if not isinstance(pattern, str):
            here.add(pattern, 'is not text; write a pattern of operators, like "aten.convolution*"')
        elif not isinstance(limits, Mapping) or not limits:
            here.add(pattern, f'{quote_value(limits)} is not a table of limits; write {{flops = "8G"}}')
        else:
            operators[pattern] = _read_operator(pattern, limits, here)
    return operators


def _read_operator(pattern: str, limits: Mapping[str, object], problems: Problems) -> Mapping[str, Bounds]:
    nested = next((key for key, value in limits.items() if key not in METRICS and isinstance(value, Mapping)), None)
    if nested is None:
        return _read_work(limits, problems.inside(pattern), "an operator")
    # TOML reads aten.mm.flops as three nested tables.
    problems.inside(pattern).add(nested, f'is a table; an operator needs quotes, like "{pattern}.{nested}"')
    return {}


def _read_work(limits: Mapping[str, object], problems: Problems, owner: str) -> Mapping[str, Bounds]:
    """Return the limits of a phase or an operator. A limit on a metric that measures no work is a mistake."""
    of_work = [key for key, metric in METRICS.items() if _is_work(metric)]
    for key in limits:
        if key in METRICS and key not in of_work:
            problems.add(key, f"measures no work, and {owner} has limits on work only; there are {', '.join(of_work)}")
    rest = {key: value for key, value in limits.items() if key not in METRICS or key in of_work}
    return read_quantities(rest, problems)


def _is_work(metric: Metric) -> bool:
    if metric.aggregation == "ratio":
        return all(METRICS[part].aggregation == "sum" for part in (*metric.derived, *metric.over))
    return metric.aggregation == "sum"


def _read_module(pattern: str, limits: Mapping[str, object], problems: Problems) -> Mapping[str, Bounds]:
    nested = next((key for key, value in limits.items() if key not in METRICS and isinstance(value, Mapping)), None)
    if nested is None:
        here = problems.inside(pattern)
        of_whole = [key for key in limits if key in METRICS and METRICS[key].aggregation == "whole"]
        for key in of_whole:
            here.add(key, "belongs to the whole model; write its limit outside of modules")
        return read_quantities({key: value for key, value in limits.items() if key not in of_whole}, here)
    # TOML reads layer4.0.flops as three nested tables.
    problems.inside(pattern).add(nested, f'is a table; a module path needs quotes, like "{pattern}.{nested}"')
    return {}
