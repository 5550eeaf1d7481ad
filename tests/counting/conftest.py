"""Tests of counting fail if a model leaves shapes because of an exception that nobody expects."""

import pytest

from pytest_flopsbudget.counting import attempts


@pytest.fixture(autouse=True)
def _failures_on_shapes_are_errors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a run on data fail the test, unless the model asked for data or the test is marked ``fails_on_shapes``."""
    if request.node.get_closest_marker("fails_on_shapes") is None:

        def refuse(failure: attempts.Failure) -> str:
            raise AssertionError(f"left shapes without need: {failure.text}")

        monkeypatch.setattr(attempts, "unexpected_failure", refuse)
