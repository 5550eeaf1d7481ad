"""Ways to measure in tests: on shapes, for real, and both, which have to agree."""

from __future__ import annotations

from pytest_flopsbudget.counting.measure import _Run


def _run(model, args, kwargs, backward):
    return _Run(model, args if isinstance(args, tuple) else (args,), kwargs or {}, backward)


def on_shapes(model, args=(), kwargs=None, *, backward=False):
    """Measure on shapes alone; whatever stands in the way is raised."""
    result, failure = _run(model, args, kwargs, backward).on_shapes()
    if failure is not None:
        raise failure
    return result


def for_real(model, args=(), kwargs=None, *, backward=False):
    """Measure with data."""
    return _run(model, args, kwargs, backward).for_real()


def both(model, args=(), kwargs=None, *, backward=False):
    """Measure in both ways, which must agree module by module and know every operator."""
    shapes = on_shapes(model, args, kwargs, backward=backward)
    real = for_real(model, args, kwargs, backward=backward)
    assert (shapes.execution, real.execution) == ("shapes", "real")
    assert not shapes.unknown_operators
    assert not real.unknown_operators
    assert shapes.modules == real.modules
    return shapes
