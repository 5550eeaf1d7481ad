"""Measure tests that do not use the fixture, by watching what they run."""

from __future__ import annotations

import functools
import inspect
import unittest
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from pytest_flopsbudget.plugin.fixture import FlopsBudget


@contextmanager
def watching(item: pytest.Item, budget: FlopsBudget) -> Iterator[None]:
    """Let ``budget`` measure the call phase of a test.

    A hypothesis test runs many examples, and each example is one measurement. In a unittest, `setUp` runs in the call
    phase too, but only the test method is measured.
    """
    handle = getattr(getattr(item, "obj", None), "hypothesis", None)
    instance = getattr(item, "instance", None)
    if callable(getattr(handle, "inner_test", None)):
        owner, name = handle, "inner_test"
    elif isinstance(instance, unittest.TestCase) and hasattr(instance, "_callTestMethod"):
        owner, name = instance, "_callTestMethod"
    else:
        with budget.watch_test():
            yield
        return
    original = getattr(owner, name)
    own = name in vars(owner)
    setattr(owner, name, _watched(original, budget))
    try:
        yield
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)


def _watched(function: Callable[..., Any], budget: FlopsBudget) -> Callable[..., Any]:
    """Return a function that calls ``function`` and watches each call."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            with budget.watch_test():
                return await function(*args, **kwargs)

        return awaited

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with budget.watch_test():
            return function(*args, **kwargs)

    return called
