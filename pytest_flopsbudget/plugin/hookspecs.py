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
    """Formulas for operators of your own; asked for once a process, before the first test that measures.

    Args:
        config: the run's configuration.

    Returns:
        Operator, as "namespace::name" → a function from its call to its FLOPs, as for `flops_formula`.
    """


@pytest.hookspec
def pytest_flopsbudget_judged(item: pytest.Item, verdict: Verdict) -> None:
    """Called for each measurement of a test after its body ran, in the process that ran it, whether it failed or not.

    Args:
        item: the test.
        verdict: the measurement and what became of it.
    """
