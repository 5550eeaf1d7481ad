"""Ways to measure in tests: on shapes, for real, and both, which have to agree."""

from __future__ import annotations

import torch

from pytest_flopsbudget.counting.measure import _Run


def _run(model, args, kwargs, backward, *, shortcuts=True):
    return _Run(model, args if isinstance(args, tuple) else (args,), kwargs or {}, backward, shortcuts=shortcuts)


def on_shapes(model, args=(), kwargs=None, *, backward=False, shortcuts=True):
    """Measure on shapes alone; whatever stands in the way is raised."""
    result, failure = _run(model, args, kwargs, backward, shortcuts=shortcuts).on_shapes()
    if failure is not None:
        raise failure
    return result


def for_real(model, args=(), kwargs=None, *, backward=False):
    """Measure with data."""
    return _run(model, args, kwargs, backward).for_real()


def both(model, args=(), kwargs=None, *, backward=False):
    """Measure in both ways, which must agree module by module and know every operator, with shortcuts and without."""
    shapes = on_shapes(model, args, kwargs, backward=backward)
    slow = on_shapes(model, args, kwargs, backward=backward, shortcuts=False)
    real = for_real(model, args, kwargs, backward=backward)
    assert (shapes.execution, real.execution) == ("shapes", "real")
    assert not shapes.unknown_operators
    assert not real.unknown_operators
    assert shapes.modules == real.modules
    assert slow.modules == real.modules
    return shapes


def metadata(output):
    """Shapes, strides and dtypes; strides of dimensions of size 1 mean nothing, nor do those of empty tensors."""
    if isinstance(output, torch.Tensor):
        strides = [stride for size, stride in zip(output.shape, output.stride(), strict=True) if size != 1]
        return output.shape, strides if output.numel() else None, output.dtype
    return [metadata(item) for item in output]
