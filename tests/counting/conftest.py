"""Settings for all tests of counting."""

import pytest

from pytest_flopsbudget.counting import attempts


@pytest.fixture(autouse=True)
def _failures_on_shapes_are_errors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if an unexpected exception stops the run on shapes, unless it is marked ``fails_on_shapes``."""
    if request.node.get_closest_marker("fails_on_shapes") is None:

        def refuse(failure: attempts.Failure) -> str:
            raise AssertionError(f"left shapes without need: {failure.text}")

        monkeypatch.setattr(attempts, "unexpected_failure", refuse)
