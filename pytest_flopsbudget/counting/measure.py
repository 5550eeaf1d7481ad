"""`measure`: count the costs of one call of a model."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from pytest_flopsbudget.counting.attempts import SHAPES_ONLY, WAYS
from pytest_flopsbudget.counting.call_hints import add_hint, check_call
from pytest_flopsbudget.counting.cloning.wrapped import unwrap_program
from pytest_flopsbudget.counting.inputs import find_inputs
from pytest_flopsbudget.counting.isolation.forks import MeasuringLock
from pytest_flopsbudget.counting.isolation.threads import serves_a_measurement
from pytest_flopsbudget.counting.run import Run
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.hardware.catalog import resolve_devices
from pytest_flopsbudget.results.call_arguments import refuse_keywords
from pytest_flopsbudget.tracebacks import without_own_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Never

    from pytest_flopsbudget.config.settings import ShapesMode
    from pytest_flopsbudget.counting.inputs import Inputs
    from pytest_flopsbudget.counting.observer import Observer
    from pytest_flopsbudget.counting.tracing.tracer import Tracer
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity


#: A measurement holds this lock, because it changes modes and attributes that all threads of the process share.
_ONE_AT_A_TIME = MeasuringLock()


def measure(  # noqa: PLR0913 -- the options of a measurement
    model: Callable[..., Any],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    backward: bool = False,
    reuse_answers: bool = True,
    shapes: ShapesMode = "preferred",
    devices: Sequence[str | Device] = (),
    **unknown: Never,
) -> Complexity:
    """Run ``model(*args, **kwargs)`` once and return its costs.

    The model runs on shapes alone: nothing is computed, and no activation is allocated. Weights and inputs may be real,
    on ``meta``, or fake. If sizes or branches depend on data, the model runs on its data instead, and the result has
    ``execution="real"``. In both cases the model, the arguments and the random state stay unchanged.

    Args:
        model: a module, a method of a module, or a function that calls modules.
        args: the positional arguments. If it is neither a list nor a tuple, it is passed as one argument. If there are
            neither positional nor keyword arguments, the example inputs that the model holds are used and named in the
            notes: ``example_input_array`` of Lightning, ``dummy_inputs`` of transformers.
        kwargs: the keyword arguments.
        backward: whether the backward pass of the summed outputs is counted too.
        reuse_answers: whether to save time: with the metadata of earlier calls, with shape rules, and with a forward
            pass without gradients. If false, PyTorch computes the metadata of every call. The counts are the same.
        shapes: "only" raises an error if a model cannot be counted on shapes alone, instead of a run on data.
        devices: devices for which to estimate the time: names, or profiles (`Device`).
        unknown: other keyword arguments are refused, and the message names a similar one.

    Raises:
        UsageError: one of these:

            - ``model`` cannot be called, or is the class of a module, or ``kwargs`` is no dictionary.
            - The model needs data, but a tensor has no data, or ``shapes`` is "only".
            - No output of the model can be differentiated, but ``backward`` is true.
            - The example inputs that the model holds do not fit the model.
            - The run left a tensor in a place outside of the model, and the old value of the place is not known.
            - A device name is unknown.
        Exception: any exception that the model raises. If the arguments were probably meant in another form, a note
            (``__notes__``) says so.
    """
    known = resolve_devices(devices)
    try:
        refuse_keywords("measure", measure, unknown)
        check_call("measure", model, kwargs)
        return trace_inputs(
            model,
            find_inputs(model, args, kwargs),
            backward=backward,
            reuse_answers=reuse_answers,
            shapes=shapes,
            devices=known,
        )[0]
    except Exception as error:  # noqa: BLE001 -- it is raised again
        if not isinstance(error, UsageError):
            add_hint(error, "measure", args)
        raise error.with_traceback(without_own_frames(error.__traceback__))  # noqa: B904 -- the same error


def trace_inputs(  # noqa: PLR0913 -- the options of `measure`
    model: Callable[..., Any],
    inputs: Inputs,
    *,
    backward: bool = False,
    reuse_answers: bool = True,
    shapes: ShapesMode = "preferred",
    devices: Sequence[Device] = (),
    observer: Observer | None = None,
) -> tuple[Complexity, Tracer]:
    """Measure a model like `measure`, with the arguments in ``inputs``, and return the tracer too.

    Other parts of `counting` need the operators that the tracer counted. ``observer`` sees each attempt.

    Raises:
        UsageError: ``model`` cannot be called or is a class, it needs data and a tensor has none, or no output can be
            differentiated.
        Exception: any exception that the model raises.
    """
    check_call("measure", model)
    with nullcontext() if serves_a_measurement() else _ONE_AT_A_TIME.held():
        run = Run(
            unwrap_program(model),
            inputs.args,
            inputs.kwargs,
            backward,
            reuse_answers=reuse_answers,
            devices=devices,
            observer=observer,
        )
        complexity = run.complexity(SHAPES_ONLY if shapes == "only" else WAYS)
    if inputs.note:
        complexity = replace(complexity, notes=(inputs.note, *complexity.notes))
    return complexity, run.tracer
