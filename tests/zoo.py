"""Helpers that measure a model on shapes, on data, in both ways, or with a clock."""

from __future__ import annotations

from contextlib import suppress

import torch

from pytest_flopsbudget.counting.latency.benchmark import time_model
from pytest_flopsbudget.counting.run import Run

#: Metrics that differ on shapes if a kernel has an output only for the backward pass.
BYTES = ("memory_traffic", "peak_memory")

#: Metrics that differ on shapes if a kernel makes additional casts or copies.
LAUNCHES = (*BYTES, "launches", "depth")


def _run(model, args, kwargs, backward, *, reuse_answers=True):
    return Run(model, args if isinstance(args, tuple) else (args,), kwargs or {}, backward, reuse_answers=reuse_answers)


def on_shapes(model, args=(), kwargs=None, *, backward=False, reuse_answers=True):
    """Measure on shapes only. If a model needs data, raise an error."""
    return _run(model, args, kwargs, backward, reuse_answers=reuse_answers).complexity(ways=("shapes",))


def for_real(model, args=(), kwargs=None, *, backward=False):
    return _run(model, args, kwargs, backward).complexity(ways=("data",))


def timed(model, args=(), kwargs=None, *, backward=False):
    """Measure the latency with the shortest possible run time."""
    return time_model(model, args, kwargs, backward=backward, run_time=1e-6)


def both(model, args=(), kwargs=None, *, backward=False, without=()):
    """Measure on shapes and on data. Check that all metrics except ``without`` are equal for each module.

    If an operator is unknown, fail. Reused answers must not change the result.
    """
    shapes = on_shapes(model, args, kwargs, backward=backward)
    slow, gradients = _slowly(model, args, kwargs, backward=backward)
    real = for_real(model, args, kwargs, backward=backward)
    assert (shapes.execution, real.execution) == ("shapes", "real")
    assert not shapes.unknown_operators
    assert not real.unknown_operators
    assert differences(shapes, real, without=without) == {}, differences(shapes, real, without=without)
    if gradients and not backward:  # the run keeps tensors for backward
        without = (*without, "peak_memory")
    assert differences(slow, real, without=without) == {}, differences(slow, real, without=without)
    return shapes


def _slowly(model, args, kwargs, *, backward):
    """Measure on shapes without reused answers. Return the result and whether gradients were enabled."""
    if isinstance(model, torch.nn.Module) and not backward:
        with suppress(Exception), torch.no_grad():
            return on_shapes(model, args, kwargs, reuse_answers=False), False
    return on_shapes(model, args, kwargs, backward=backward, reuse_answers=False), torch.is_grad_enabled()


def differences(one, other, *, without=()):
    """Return {(path, metric): (one, other)} for each difference between the modules of two measurements."""
    left, right = _values_of(one, without), _values_of(other, without)
    return {key: (left.get(key), right.get(key)) for key in {**left, **right} if left.get(key) != right.get(key)}


def _values_of(counted, without):
    flat = {}
    for path, module in counted.modules.items():
        flat[path] = (module.type, module.shape, module.calls)
        flat |= {(path, key): value for key, value in module.metrics.items() if key not in without}
    if "depth" not in without:
        flat["", "depth"] = counted.metrics["depth"]
    return flat


def metadata(output):
    """Return (shape, strides, dtype) of each tensor. Strides of dimensions of size 1 are left out."""
    if isinstance(output, torch.Tensor):
        strides = [stride for size, stride in zip(output.shape, output.stride(), strict=True) if size != 1]
        return output.shape, strides if output.numel() else None, output.dtype
    return [metadata(item) for item in output]
