"""Write budgets in tests with plain amounts for limits."""

from __future__ import annotations

from pytest_flopsbudget.config.settings import Budget
from pytest_flopsbudget.quantities.bounds import Bounds, bounds_of
from pytest_flopsbudget.quantities.metrics import metric_of


def bounds(amounts):
    """Return metric key → bounds. An amount is a maximum, or a minimum if more of the metric is better."""
    return {
        key: amount if isinstance(amount, Bounds) else bounds_of(amount, metric_of(key))
        for key, amount in amounts.items()
    }


def bounds_of_parts(amounts):
    """Return part → metric key → bounds, for modules, operators or phases."""
    return {part: bounds(own) for part, own in amounts.items()}


def budget(source, limits=(), modules=(), phases=(), operators=(), **fields):
    """Return a budget. Its limits are given as amounts or as bounds."""
    return Budget(
        source,
        limits=bounds(dict(limits)),
        modules=bounds_of_parts(dict(modules)),
        phases=bounds_of_parts(dict(phases)),
        operators=bounds_of_parts(dict(operators)),
        **fields,
    )
