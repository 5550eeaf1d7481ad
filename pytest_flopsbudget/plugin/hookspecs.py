"""Hooks that conftest.py and other plugins may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flopsbudget.counting.costs import Call
    from pytest_flopsbudget.results.verdict import Verdict


@pytest.hookspec
def pytest_flopsbudget_formulas(config: pytest.Config) -> dict[str, Callable[[Call], int]]:  # type: ignore[empty-body]
    """Return formulas for your own operators. pytest calls this hook once per process, before the first measurement.

    Args:
        config: the run's configuration.

    Returns:
        Name of an operator ("namespace::name") → a function that takes a `Call` and returns FLOPs, as for
            `flops_formula`.
    """


@pytest.hookspec
def pytest_flopsbudget_judged(item: pytest.Item, verdict: Verdict) -> None:
    """React to the verdict on one measurement. This hook is called after the test's body, in the process of the test.

    Args:
        item: the test.
        verdict: the measurement, its limits, and the comparison with its baseline.
    """
