"""What a limit allows: the smallest and the largest value, and the value beyond which the run warns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.parsing import (
    TOO_LARGE,
    example_of,
    nearest_spelling,
    parse_exactly,
    parse_percent,
    quote_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flopsbudget.quantities.metrics import Amount, Metric

_SHARE_KEYS = {"at_most", "at_least", "of"}
_KEYS = ("min", "max", "warn", "exactly", "at_most", "at_least", "of")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The smallest and the largest value of a metric that a limit allows. None means that there is no such bound.

    If ``share_of`` is set, ``minimum`` and ``maximum`` are shares: 1/2 is half of the value of ``share_of``.
    """

    minimum: Amount | None = None
    maximum: Amount | None = None
    #: Values beyond this bound pass with a warning: larger values, or smaller ones if more of the metric is better.
    warning: Amount | None = None
    #: The name of another measurement of the test, or the path of a module; "" is the whole model.
    share_of: str | None = None


def bounds_of(amount: Amount, metric: Metric) -> Bounds:
    """Return the bounds of a limit that is one amount: a minimum if more of ``metric`` is better, else a maximum."""
    return Bounds(maximum=amount) if metric.better == "less" else Bounds(minimum=amount)


def parse_bounds(value: object, metric: Metric) -> Bounds:
    """Parse a limit of ``metric``.

    Args:
        value: an amount: the largest allowed value, or the smallest one if more of the metric is better. Or a table
            with the keys ``min``, ``max`` and ``warn``; with the key ``exactly``; or with ``at_most`` or ``at_least``
            (a share such as 0.5 or "50%") and ``of`` (the measurement or module of whose value this is a share).
        metric: the metric that is limited. Its unit is that of the amounts.

    Raises:
        ValueError: ``value`` is no such limit. The message does not say where ``value`` was written.
    """
    if not isinstance(value, Mapping):
        return bounds_of(_rounded(value, metric, math.floor), metric)
    unknown = next((key for key in value if key not in _KEYS), None)
    if unknown is not None:
        near = nearest_spelling(str(unknown), _KEYS)
        hint = f"; did you mean {near}?" if near else ""
        raise ValueError(f"no such key {quote_value(unknown)}{hint}; {_bounds_hint(metric)}")
    if not value or set(value) == {"of"}:
        raise ValueError(f"sets no limit; {_bounds_hint(metric)}")
    for alone in (_SHARE_KEYS, {"exactly"}):
        if set(value) & alone and not set(value) <= alone:
            words = " and ".join(sorted(set(value)))
            raise ValueError(f"{words} do not go together; {_bounds_hint(metric)}")
    return _parse_shares(value) if set(value) & _SHARE_KEYS else _parse_range(value, metric)


def _parse_range(table: Mapping[object, object], metric: Metric) -> Bounds:
    if "exactly" in table:
        amount = _rounded(table["exactly"], metric, math.floor)
        if amount != _rounded(table["exactly"], metric, math.ceil):
            raise ValueError(f"{quote_value(table['exactly'])} is not whole, so no {metric.key} can be exactly that")
        return Bounds(minimum=amount, maximum=amount)
    less = metric.better == "less"
    minimum = _rounded(table["min"], metric, math.ceil) if "min" in table else None
    maximum = _rounded(table["max"], metric, math.floor) if "max" in table else None
    warning = _rounded(table["warn"], metric, math.floor if less else math.ceil) if "warn" in table else None
    if minimum is not None and maximum is not None and minimum > maximum:
        raise ValueError(f"min {quote_value(table['min'])} is more than max {quote_value(table['max'])}")
    hard = maximum if less else minimum
    if warning is not None and hard is not None and (warning >= hard if less else warning <= hard):
        word, key = ("less", "max") if less else ("more", "min")
        raise ValueError(
            f"warn {quote_value(table['warn'])} never warns; write {word} than {key} {quote_value(table[key])}"
        )
    return Bounds(minimum=minimum, maximum=maximum, warning=warning)


def _parse_shares(table: Mapping[object, object]) -> Bounds:
    of = table.get("of")
    if not isinstance(of, str):
        wrong = "of is missing" if of is None else f"of {quote_value(of)} is not text"
        raise ValueError(  # noqa: TRY004 -- as for all mistakes in a limit
            f'{wrong}; write {{at_most = 0.5, of = "teacher"}} with the name of a measurement or the path of a module'
        )
    minimum, maximum = (_parse_share(table[key]) if key in table else None for key in ("at_least", "at_most"))
    if minimum is not None and maximum is not None and minimum > maximum:
        raise ValueError(
            f"at_least {quote_value(table['at_least'])} is more than at_most {quote_value(table['at_most'])}"
        )
    return Bounds(minimum=minimum, maximum=maximum, share_of=of)


def _parse_share(value: object) -> Fraction:
    if isinstance(value, str):
        return parse_percent(value)
    if isinstance(value, float) and math.isfinite(value) and value >= 0:
        return Fraction(repr(value))  # the digits as written: 0.1 is one tenth
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < TOO_LARGE:
        return Fraction(value)
    raise ValueError(f'{quote_value(value)} is not a share of zero or more; write it like 0.5 or "50%"')


def _rounded(value: object, metric: Metric, to_whole: Callable[[Fraction], int]) -> Amount:
    """Parse an amount. All metrics but ratios have whole values, so a bound of them is rounded to a whole number."""
    number = parse_exactly(value, metric)
    return number if metric.over else to_whole(number)


def _bounds_hint(metric: Metric) -> str:
    example = example_of(metric).partition(" or ")[0]
    ways = f'{{min = {example}, max = ..., warn = ...}}, {{exactly = ...}} or {{at_most = 0.5, of = "..."}}'
    return f"write {example}, {ways}"
