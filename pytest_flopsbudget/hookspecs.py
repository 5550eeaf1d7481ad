"""Hooks that conftest.py and other plugins may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_flopsbudget.results.verdict import Verdict


@pytest.hookspec
def pytest_flopsbudget_judged(item: pytest.Item, verdict: Verdict) -> None:
    """Called for each measurement of a test after its body ran, in the process that ran it, whether it failed or not.

    Args:
        item: the test.
        verdict: the measurement and what became of it.
    """
