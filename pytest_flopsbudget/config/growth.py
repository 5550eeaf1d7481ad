"""Read limits on growth (``growth = {sequence = "n"}``) and limits that are formulas (``flops = "24*B*S*d^2"``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.laws.algebra.formula import Formula
from pytest_flopsbudget.laws.algebra.orders import parse_order
from pytest_flopsbudget.quantities.bounds import Bounds
from pytest_flopsbudget.quantities.metrics import METRICS
from pytest_flopsbudget.quantities.parsing import TOO_LARGE, parse_quantity, quote_value

if TYPE_CHECKING:
    from pytest_flopsbudget.config.problems import Problems
    from pytest_flopsbudget.laws.algebra.orders import Order

#: The keys that this file reads, besides metrics.
LAW_KEYS = ("growth", "where")


def read_growth(value: object, problems: Problems) -> Mapping[str, Mapping[str, Order]]:
    """Return metric key → symbol → largest order of growth, from the value of the key ``growth``.

    ``{sequence = "n"}`` is for FLOPs. ``{peak_memory = {sequence = "n"}}`` is for another metric.
    """
    if not isinstance(value, Mapping) or not value:
        problems.add("growth", f'{quote_value(value)} is not a table of orders by size; write {{sequence = "n"}}')
        return {}
    here = problems.inside("growth")
    growth: dict[str, dict[str, Order]] = {}
    for key, order in value.items():
        if not isinstance(order, Mapping):
            _read_order("flops", key, order, here, growth)
        elif key not in METRICS:
            here.add_unknown_key(key, METRICS)
        elif METRICS[key].over or METRICS[key].per:
            here.add(key, "has no law of its growth: it is a ratio or a time; limit the metrics behind it")
        else:
            for symbol, one in order.items():
                _read_order(key, symbol, one, here.inside(key), growth)
    return growth


def _read_order(
    metric: str, symbol: object, order: object, problems: Problems, growth: dict[str, dict[str, Order]]
) -> None:
    if not isinstance(symbol, str) or not symbol.isidentifier():
        problems.add(symbol, "is no name of a size; write one like sequence")
        return
    try:
        growth.setdefault(metric, {})[symbol] = parse_order(order)
    except ValueError as error:
        problems.add(symbol, error)


def read_module_growth(value: object, problems: Problems) -> Mapping[str, Mapping[str, Mapping[str, Order]]]:
    """Return pattern of module paths → metric key → symbol → largest order, from the value of the key ``modules``."""
    if not isinstance(value, Mapping):
        return {}  # `read_modules` reports this
    here = problems.inside("modules")
    growth = {
        pattern: read_growth(limits["growth"], here.inside(pattern))
        for pattern, limits in value.items()
        if isinstance(pattern, str) and isinstance(limits, Mapping) and "growth" in limits
    }
    return {pattern: orders for pattern, orders in growth.items() if orders}


def read_formulas(
    table: Mapping[str, object], problems: Problems
) -> tuple[Mapping[str, Formula], Mapping[str, Bounds], Mapping[str, object]]:
    """Take the limits that are formulas from a table of limits.

    Returns:
        Metric key → formula, for formulas with names whose value only a law knows; metric key → bounds, for formulas
        whose value is known; and the table without these formulas.
    """
    where = _read_where(table["where"], problems) if "where" in table else {}
    formulas: dict[str, Formula] = {}
    bounds: dict[str, Bounds] = {}
    written = {key: value for key, value in table.items() if key in METRICS and _is_formula(key, value, table)}
    for key, value in written.items():
        if METRICS[key].over or METRICS[key].per:
            problems.add(key, "is a ratio or a time, which no formula gives; write an amount")
            continue
        try:
            formula = Formula(str(value), where)
            if formula.names():
                formulas[key] = formula
            else:
                bounds[key] = _bounds(formula)
        except UsageError as error:
            problems.add(key, error)
    if "where" in table and not written:
        problems.add("where", "gives values to names of formulas, and no limit beside it is a formula")
    return formulas, bounds, {key: value for key, value in table.items() if key not in written}


def _is_formula(key: str, value: object, table: Mapping[str, object]) -> bool:
    if not isinstance(value, str):
        return False
    if any(sign in value for sign in "*^(=<\u2264\u00b7"):
        return True
    if "where" not in table:
        return False
    try:
        parse_quantity(value, METRICS[key])
    except ValueError:
        return True
    return False


def _bounds(formula: Formula) -> Bounds:
    value = formula.whole_at({})
    if not 0 <= value < TOO_LARGE:
        raise UsageError(f"formula {formula.text}: its value {value:.3g} is out of range")
    return Bounds(minimum=None if formula.relation == "<=" else value, maximum=value)


def _read_where(value: object, problems: Problems) -> Mapping[str, int]:
    if not isinstance(value, Mapping) or not value:
        problems.add("where", f"{quote_value(value)} is not a table of values by name; write {{L = 12, d = 768}}")
        return {}
    where = {}
    for name, number in value.items():
        if not isinstance(name, str) or not name.isidentifier():
            problems.inside("where").add(name, "is no name; write one like d")
        elif not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < TOO_LARGE:
            problems.inside("where").add(name, f"{quote_value(number)} is not a whole number of 0 or more")
        else:
            where[name] = number
    return where
