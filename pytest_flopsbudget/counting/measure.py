"""`measure`: the one entrance to counting."""

from __future__ import annotations

import random
import sys
import types
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree

from pytest_flopsbudget.counting.description import name_of, signature_of
from pytest_flopsbudget.counting.metadata import NoTwinError
from pytest_flopsbudget.counting.modules import ModuleTracker
from pytest_flopsbudget.counting.real import RealTracer
from pytest_flopsbudget.counting.shadow import Shadow, sharing_data, without_data
from pytest_flopsbudget.counting.shapes import NeedsDataError, ShapesTracer
from pytest_flopsbudget.counting.tree import complexity
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_flopsbudget.counting.tracer import Tracer
    from pytest_flopsbudget.results.complexity import Complexity, Execution


def measure(
    model: Callable[..., Any],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    backward: bool = False,
) -> Complexity:
    """Run ``model(*args, **kwargs)`` once and say what it costs.

    The run is on shapes alone: nothing is computed, no activation is allocated, and weights and inputs may be real, on
    ``meta``, or fake. Where the model cannot run so (sizes or branches that depend on data), it is run for real, and the
    result says ``execution="real"``. Either way the model, the arguments and the random state are as before.

    Args:
        model: a module, a method of one, or a function that calls some.
        args: the positional arguments; a single tensor stands for a tuple of it.
        kwargs: the keyword arguments.
        backward: count the backward pass of the summed outputs too.

    Raises:
        UsageError: ``model`` is no callable, it needs data and has none, or no output of it can be differentiated.
        Exception: whatever the model itself raises, as it raised it.
    """
    if not callable(model):
        raise UsageError(
            f"measure(model, args): the model is {_article(model)}, which cannot be called; hand over a torch.nn.Module "
            "or a function"
        )
    args = args if isinstance(args, (tuple, list)) else (args,)
    run = _Run(_uncompiled(model), tuple(args), dict(kwargs or {}), backward)
    result, failure = run.on_shapes()
    if result is not None:
        return result
    without = run.without_data()
    if without is not None:
        if failure is not None and run.asked_for_data is None:
            raise failure
        operator, path = run.asked_for_data or ("an operator", "")
        raise UsageError(
            f"{name_of(model)} needs data, and {without} has none: {operator} in "
            f"{path or 'the model itself'!r} returns sizes or values that depend on it; build the model and its inputs "
            "on a real device, or measure a part of it that does not need data"
        ) from failure
    return run.for_real()


class _Run:
    """One model with its arguments, to be run in one way or the other."""

    def __init__(self, model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], backward: bool) -> None:
        self._model, self._args, self._kwargs, self._backward = model, args, kwargs, backward
        #: (operator, module) that could not do with shapes.
        self.asked_for_data: tuple[str, str] | None = None

    def on_shapes(self) -> tuple[Complexity | None, Exception | None]:
        """The complexity, or why it could not be had from shapes."""
        shadow = Shadow(without_data)
        try:
            model, args, kwargs = self._doubled(shadow)
            tracer = ShapesTracer(_tracker_of(model))
        except NoTwinError as error:
            return None, error
        try:
            self._traced(tracer, model, args, kwargs)
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 -- whether it is the model's own, running for real will show
            self.asked_for_data = tracer.asked_for_data
            return None, error
        self.asked_for_data = tracer.asked_for_data
        if tracer.asked_for_data is not None:
            return None, NeedsDataError(tracer.asked_for_data[0])
        return self._complexity(tracer, "shapes"), None

    def for_real(self) -> Complexity:
        """The complexity as it is with this data."""
        model, args, kwargs = self._doubled(Shadow(sharing_data))
        tracer = RealTracer(_tracker_of(model))
        try:
            self._traced(tracer, model, args, kwargs)
        finally:
            tracer.restore()
        return self._complexity(tracer, "real")

    def without_data(self) -> str | None:
        """The first tensor that holds no data, in words; None where all of them do."""
        arguments = pytree.tree_leaves((self._args, self._kwargs))
        module = _module_of(self._model)
        named = [] if module is None else [*module.named_parameters(), *module.named_buffers()]
        for name, tensor in [*named, *(("an input", item) for item in arguments)]:
            if isinstance(tensor, FakeTensor):
                return f"{name} (a fake tensor)"
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                return f"{name} (on the meta device)"
        return None

    def _doubled(self, shadow: Shadow) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        def double(value: Any) -> Any:
            return shadow.of(value) if isinstance(value, (torch.Tensor, torch.nn.Module)) else value

        args, kwargs = pytree.tree_map(double, (self._args, self._kwargs))
        return shadow.of(self._model), args, kwargs

    def _traced(
        self, tracer: Tracer, model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        with _undisturbed(), tracer.tracker.following():
            if self._backward:
                with torch.enable_grad(), tracer:
                    _backward(model(*args, **kwargs))
            else:
                with tracer:
                    model(*args, **kwargs)

    def _complexity(self, tracer: Tracer, execution: Execution) -> Complexity:
        return complexity(
            tracer,
            model=name_of(self._model),
            inputs=signature_of(self._args, self._kwargs),
            execution=execution,
            backward=self._backward,
        )


def _backward(outputs: Any) -> None:
    """Run the backward pass of the sum of all outputs that can be differentiated."""
    tensors = [
        leaf
        for leaf in pytree.tree_leaves(outputs)
        if isinstance(leaf, torch.Tensor) and leaf.requires_grad and (leaf.is_floating_point() or leaf.is_complex())
    ]
    if not tensors:
        raise UsageError(
            "backward=True, but no output of the model requires a gradient; check requires_grad of its parameters, "
            "or measure without backward"
        )
    # Seeds of ones are what the sum's own backward would hand on.
    torch.autograd.backward(tensors, [torch.ones((), dtype=item.dtype, device=item.device).expand_as(item) for item in tensors])


def _tracker_of(model: Callable[..., Any]) -> ModuleTracker:
    module = _module_of(model)
    tracker = ModuleTracker(module, name_of(model))
    if not isinstance(model, torch.nn.Module):
        tracker.root.calls = 1
        tracker.root.type = name_of(model)
    return tracker


def _module_of(model: Callable[..., Any]) -> torch.nn.Module | None:
    """The module that ``model`` is, or is a method of."""
    if isinstance(model, torch.nn.Module):
        return model
    owner = getattr(getattr(model, "func", model), "__self__", None)
    return owner if isinstance(owner, torch.nn.Module) else None


def _uncompiled(model: Callable[..., Any]) -> Callable[..., Any]:
    """What ``torch.compile`` was given: compiling changes how a model is run, not its work."""
    original = getattr(model, "_orig_mod", None) or getattr(model, "_torchdynamo_orig_callable", None)
    if original is None or not callable(original):
        return model
    return original if not isinstance(original, types.MethodType) else original


def _article(value: Any) -> str:
    return f"a value of type {type(value).__name__}"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Take the same path in every mode, and leave the modes and the random state as they were."""
    states: list[Callable[[], None]] = []
    python_state = random.getstate()
    states.append(lambda: random.setstate(python_state))
    if "numpy" in sys.modules:
        numpy_random = sys.modules["numpy"].random
        numpy_state = numpy_random.get_state()
        states.append(lambda: numpy_random.set_state(numpy_state))
    fused = torch.backends.mha.get_fastpath_enabled()
    states.append(lambda: torch.backends.mha.set_fastpath_enabled(fused))
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with ExitStack() as stack:
        for restore in states:
            stack.callback(restore)
        stack.enter_context(torch.random.fork_rng(devices=devices))
        if torch.is_inference_mode_enabled():
            grad = torch.is_grad_enabled()
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.set_grad_enabled(grad))
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        # Fused inference paths of attention modules do the same work in operators of their own.
        torch.backends.mha.set_fastpath_enabled(False)
        yield
