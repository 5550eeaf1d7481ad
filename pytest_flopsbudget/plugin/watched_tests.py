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


@contextmanager
def timed_calls_uncounted(item: pytest.Item) -> Iterator[None]:
    """Let pytest-benchmark call a model without a watch, except for one call.

    pytest-benchmark repeats a call as often as the clock allows, so the sum of all calls would differ in each run, and
    counting would slow down what it times. It calls the function once more without timing it, or, in its pedantic mode,
    takes the result from a timed call.
    """
    benchmark: Any = getattr(item, "funcargs", {}).get("benchmark")
    make_runner = getattr(benchmark, "_make_runner", None)
    if make_runner is None:
        yield
        return
    has_counted = False

    def make(*args: Any, **kwargs: Any) -> Callable[..., Any]:
        runner = make_runner(*args, **kwargs)

        def run(loops: range | None, *rest: Any, **options: Any) -> Any:
            nonlocal has_counted
            if not (loops or has_counted):
                has_counted = True
                return runner(loops, *rest, **options)
            from pytest_flopsbudget.counting.watch import watches_paused

            with watches_paused():
                return runner(loops, *rest, **options)

        return run

    benchmark._make_runner = make  # noqa: SLF001 -- the runner alone knows which calls are timed
    try:
        yield
    finally:
        del benchmark._make_runner  # noqa: SLF001


def _watched(function: Callable[..., Any], budget: FlopsBudget) -> Callable[..., Any]:
    """Return a function that calls ``function`` and lets ``budget`` measure each call."""
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
