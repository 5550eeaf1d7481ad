"""`measure`: the one entrance to counting."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from pytest_flopsbudget.counting.cloning.cloner import unwrap_program
from pytest_flopsbudget.counting.inputs import find_inputs
from pytest_flopsbudget.counting.isolation.global_state import gc_paused
from pytest_flopsbudget.counting.isolation.threads import serves_a_measurement
from pytest_flopsbudget.counting.run import _Run
from pytest_flopsbudget.counting.torch_private import compiler_is_loaded
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.hardware.catalog import resolve_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_flopsbudget.counting.tracing.tracer import Tracer
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity


_T = TypeVar("_T")
#: A measurement changes modes and attributes that all threads of the process share.
_ONE_AT_A_TIME = threading.RLock()


def measure(  # noqa: PLR0913 -- what may be said of a measurement
    model: Callable[..., Any],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    backward: bool = False,
    reuse_answers: bool = True,
    devices: Sequence[str | Device] = (),
) -> Complexity:
    """Run ``model(*args, **kwargs)`` once and say what it costs.

    The run is on shapes alone: nothing is computed, no activation is allocated, and weights and inputs may be real, on
    ``meta``, or fake. Where the model cannot run so (sizes or branches that depend on data), it is run on its data, and
    the result says ``execution="real"``. Either way the model, the arguments and the random state are as before.

    Args:
        model: a module, a method of one, or a function that calls some.
        args: the positional arguments; a single tensor stands for a tuple of it. Where neither these nor keyword
            arguments are given, the example that the model carries is used and named in the notes:
            ``example_input_array`` of Lightning, ``dummy_inputs`` of transformers.
        kwargs: the keyword arguments.
        backward: count the backward pass of the summed outputs too.
        reuse_answers: remember how operators were answered, use shape rules, and leave gradients out of a forward pass.
            Without it, PyTorch is asked about every call of every operator, which is slow and counts the same.
        devices: for which to estimate the time, by name or with figures of one's own.

    Raises:
        UsageError: ``model`` is no callable, it needs data and has none, no output of it can be differentiated, the
            example that it carries is not for it, or no device has one of the names.
        Exception: whatever the model itself raises, as it raised it.
    """
    return measure_traced(model, args, kwargs, backward=backward, reuse_answers=reuse_answers, devices=devices)[0]


def measure_traced(  # noqa: PLR0913
    model: Callable[..., Any],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    backward: bool = False,
    reuse_answers: bool = True,
    devices: Sequence[str | Device] = (),
) -> tuple[Complexity, Tracer]:
    """The same, and what counted it."""
    if not callable(model):
        raise UsageError(
            f"measure(model, args): the model is a value of type {type(model).__name__}, which cannot be called; "
            "hand over a torch.nn.Module or a function"
        )
    known, inputs = resolve_devices(devices), find_inputs(model, args, kwargs)
    with nullcontext() if serves_a_measurement() else _ONE_AT_A_TIME:
        run = _Run(
            unwrap_program(model), inputs.args, inputs.kwargs, backward, reuse_answers=reuse_answers, devices=known
        )
        result = _measured(run)
    if inputs.note:
        result = replace(result, notes=(inputs.note, *result.notes))
    return result, run.tracer


def _measured(run: _Run) -> Complexity:
    """On shapes where they are enough, with the values of integers where these are, else for real."""
    with gc_paused():
        result, failure = _uncompiled(run.on_shapes)
        if result is None and run.asked_for_data is not None:
            result, failure = _uncompiled(run.on_integers)
    if result is not None:
        return result
    if run.without_data is None:
        return _uncompiled(run.for_real)
    if failure is not None and run.asked_for_data is None:
        raise failure
    operator, path = run.asked_for_data or ("an operator", "")
    raise UsageError(
        f"{run.name} needs data, and {run.without_data} has none: {operator} in {path or 'the model itself'!r} "
        "returns sizes or values that depend on it; hand over real inputs (for masks that is often enough), "
        "or build the model on a real device too"
    ) from failure


def _uncompiled(attempt: Callable[[], _T]) -> _T:
    """Run again where the model loaded the compiler on its way: only a loaded one can be told to stay out."""
    if not compiler_is_loaded():
        try:
            result = attempt()
        except Exception:
            if not compiler_is_loaded():
                raise
        else:
            if not compiler_is_loaded():
                return result
    return attempt()
