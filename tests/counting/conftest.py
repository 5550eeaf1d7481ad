"""Settings for all tests of counting."""

import gc
import sys
from collections.abc import Iterator

import pytest
import torch

from pytest_flopsbudget.counting import attempts


@pytest.fixture(autouse=True)
def _failures_on_shapes_are_errors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test without the mark ``fails_on_shapes`` if an unexpected exception stops its run on shapes."""
    if request.node.get_closest_marker("fails_on_shapes") is None:

        def refuse(failure: attempts.Failure) -> str:
            raise AssertionError(f"left shapes without need: {failure.text}")

        monkeypatch.setattr(attempts, "unexpected_failure", refuse)


@pytest.fixture(autouse=True)
def _nothing_stays_compiled() -> Iterator[None]:
    """Make PyTorch's compiler forget the models of a test, as PyTorch 2.6 compiles or exports only a few of a kind."""
    yield
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def _ignore_old_objects() -> Iterator[None]:
    """Let the garbage collector look only at objects that are made from now on.

    A collection takes half a second in a test run of a million objects.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


only_new_objects = pytest.fixture(scope="module")(_ignore_old_objects)
only_new_objects_of_class = pytest.fixture(scope="class")(_ignore_old_objects)
