"""Check the arguments of public functions: each refusal names the parameter, the value and what is allowed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.metrics import METRICS, devices_in, is_key, is_measured, key_for, sort_metrics
from pytest_flopsbudget.quantities.parsing import near_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: The meaning of the parameter ``width`` of tables.
WIDTH = "the maximum number of characters in a line"


def check_whole_number(name: str, value: object, what: str, *, least: int = 0) -> None:
    """Refuse an argument that is neither None nor a whole number of at least ``least``.

    Args:
        name: the name of the parameter.
        value: the argument.
        what: what the parameter means, for the message: "the number of levels below the model".
        least: the smallest number that is allowed.

    Raises:
        UsageError: the argument is refused.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise UsageError(f"{name}={value!r}: {what} is None or a whole number of at least {least}")


def check_metrics(metrics: object, measured: Mapping[str, int]) -> list[str]:
    """Return the keys of metrics that the argument ``metrics`` names: one text, or several.

    Args:
        metrics: the argument.
        measured: the stored metrics of the measurement.

    Raises:
        UsageError: the argument is neither a text nor a list of texts, there is no such metric, or it was not measured.
    """
    keys: list[object]
    try:
        keys = [metrics] if isinstance(metrics, (str, bytes)) else list(metrics)  # type: ignore[call-overload]
    except TypeError:
        raise UsageError(
            f"metrics={metrics!r}: is neither None nor a list of metrics; write metrics=['flops', 'params']"
        ) from None
    for key in keys:
        why = why_no_value(measured, key)
        if why:
            raise UsageError(f"metrics: {why}")
    return [str(key) for key in keys]


def similar_parameter(function: Callable[..., object], name: str) -> str:
    """Return the names of the function's parameters that are spelled like ``name``: "backward"; "" if there are none.

    Several names are joined by "or".
    """
    parameters = inspect.signature(function).parameters.values()
    return " or ".join(near_words(name, [one.name for one in parameters if one.kind is not one.VAR_KEYWORD]))


def refuse_keywords(call: str, function: Callable[..., object], unknown: Iterable[str]) -> None:
    """Refuse keyword arguments that the function does not have.

    Args:
        call: the function as the user called it: "flops_budget".
        function: the function.
        unknown: the names of the arguments.

    Raises:
        UsageError: there is such an argument. The message names the parameter that was probably meant.
    """
    for name in unknown:
        near = similar_parameter(function, name)
        hint = f"did you mean {near}?" if near else f'an input of the model is passed as kwargs={{"{name}": ...}}'
        raise UsageError(f"{call}(..., {name}=...): no such argument; {hint}")


def why_no_value(measured: Mapping[str, int], key: object) -> str:
    """Return a sentence on a key for which a measurement has no value; "" if the key is valid and was measured.

    Args:
        measured: the stored metrics of the measurement.
        key: the key that the caller asked for.
    """
    if not isinstance(key, str):
        return f"{key!r} is a value of type {type(key).__name__}; a metric is a text, such as 'flops'"
    if key in METRICS and METRICS[key].per == "device":
        return f"{key!r} has a value for each device; name one, as in {key_for(key, 'A100')!r}{_there_are(measured)}"
    if not is_key(key):
        near = near_words(key, METRICS)
        return f"there is no metric {key!r}; " + (
            f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(METRICS)}"
        )
    return "" if is_measured(measured, key) else f"the metric {key!r} was not measured{_there_are(measured)}"


def _there_are(measured: Mapping[str, int]) -> str:
    return f"; there are {', '.join(_keys(measured)) or 'none'}"


def _keys(measured: Mapping[str, int]) -> Iterable[str]:
    by_device = (
        key_for(key, device) for device in devices_in(measured) for key in METRICS if METRICS[key].per == "device"
    )
    others = (key for key in METRICS if METRICS[key].per != "device")
    return sort_metrics(key for key in (*others, *by_device) if is_measured(measured, key))
