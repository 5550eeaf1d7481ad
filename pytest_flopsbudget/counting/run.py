"""Run one model with its inputs until an attempt gives its complexity: on shapes, with integers, or on data."""

from __future__ import annotations

import traceback
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

from pytest_flopsbudget.counting.aggregation.result import build_complexity
from pytest_flopsbudget.counting.cloning.cloner import Cloner
from pytest_flopsbudget.counting.cloning.lightning import disable_logging
from pytest_flopsbudget.counting.cloning.optimizers import find_optimizers, note_idle_steps, record_step_counts
from pytest_flopsbudget.counting.cloning.tensors import clone_sharing_data, clone_to_meta
from pytest_flopsbudget.counting.cloning.torchscript import ReadsMemoryError
from pytest_flopsbudget.counting.cloning.wrapped import unwrap_compiled
from pytest_flopsbudget.counting.distributed.data_parallel import reshard
from pytest_flopsbudget.counting.distributed.dtensor import is_sharded, local_shards_only, wait_for
from pytest_flopsbudget.counting.distributed.world import has_process_group
from pytest_flopsbudget.counting.higher_order import flex_attention
from pytest_flopsbudget.counting.higher_order.control_flow import higher_order_decomposed
from pytest_flopsbudget.counting.isolation.global_state import gc_paused, isolated
from pytest_flopsbudget.counting.lazy_outputs import take_lazy_outputs
from pytest_flopsbudget.counting.meta.attention import cpu_attention_on_meta
from pytest_flopsbudget.counting.meta.autocast import autocast_on_meta
from pytest_flopsbudget.counting.meta.known_values import MAX_INTEGER_ELEMENTS
from pytest_flopsbudget.counting.meta.recurrent import recurrent_decomposed
from pytest_flopsbudget.counting.tensors.metadata import NoMetaCloneError, has_data, is_fake
from pytest_flopsbudget.counting.tensors.traversal import iterate_tensors
from pytest_flopsbudget.counting.torch_private import compiler_is_loaded
from pytest_flopsbudget.counting.tracing.labels import name_of, signature_of
from pytest_flopsbudget.counting.tracing.modules import ModuleTracker
from pytest_flopsbudget.counting.tracing.other_threads import other_threads_tracked
from pytest_flopsbudget.counting.tracing.phases import following_steps
from pytest_flopsbudget.counting.tracing.real import RealTracer
from pytest_flopsbudget.counting.tracing.resident import record_existing_gradients, record_resident_tensors
from pytest_flopsbudget.counting.tracing.shapes import NeedsDataError, ShapesTracer
from pytest_flopsbudget.counting.tracing.undispatched import undispatched_noted
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_flopsbudget.counting.meta.known_values import KnownValues
    from pytest_flopsbudget.counting.tracing.tracer import Tracer
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity, Execution


Way = Literal["shapes", "integers", "data"]
#: All ways to run a model, the fastest first.
WAYS: tuple[Way, ...] = ("shapes", "integers", "data")


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a model is run once."""

    #: "shapes": on tensors without data. "integers": on tensors without data too, but the values of integer and boolean
    #: tensors (masks, lengths, indices) are known; they are small, and operators that need data often need just them.
    #: "data": on the model's own data.
    way: Way
    #: Whether gradients are enabled. A forward pass runs faster without, and few models compute gradients in theirs.
    gradients: bool
    #: Whether each clone of a module without hooks has its own dicts for hooks. Without, all clones share one that
    #: refuses hooks, which is faster.
    own_hooks: bool


@dataclass(frozen=True, slots=True)
class LeftAttempt:
    """An attempt whose result is not used, and the reason. It holds texts only, so that it keeps no tensor alive."""

    attempt: Attempt
    #: The attempt that was made instead; None if there was no other.
    following: Attempt | None
    why: str
    #: (operator, path of the module) that first asked for data, if one did.
    asked_for_data: tuple[str, str] | None = None
    #: The first tensor of the model or its inputs that holds no data, in words; None if all hold data.
    without_data: str | None = None


class _Trial:
    """An attempt under way, with the objects that are made for it."""

    def __init__(self, attempt: Attempt, *, existing_gradients: bool) -> None:
        self.attempt = attempt
        self.cloner = Cloner(
            clone_sharing_data if attempt.way == "data" else clone_to_meta,
            own_hooks=attempt.own_hooks,
            gradients=existing_gradients,
        )
        self.shapes_tracer: ShapesTracer | None = None
        self._had_compiler = compiler_is_loaded()

    def needs_repetition(self) -> LeftAttempt | None:
        """Return why the attempt has to be repeated, whether it failed or not; None if it does not have to be."""
        if self.cloner.lacks_hooks:
            why, following = "a hook was registered on a module", replace(self.attempt, own_hooks=True)
        elif not self._had_compiler and compiler_is_loaded():
            # Only a loaded compiler can be switched off.
            why, following = "the model loaded PyTorch's compiler", self.attempt
        else:
            return None
        return LeftAttempt(self.attempt, following, why)


class Run:
    """One model with its inputs, which is run in one way after another until one of them gives its complexity."""

    def __init__(  # noqa: PLR0913 -- the parameters of `measure`
        self,
        model: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        backward: bool,
        *,
        reuse_answers: bool = True,
        devices: Sequence[Device] = (),
    ) -> None:
        self._reuse_answers, self._devices = reuse_answers, devices
        self._model: Callable[..., Any] = unwrap_compiled(model)
        self._args, self._kwargs, self._backward = args, kwargs, backward
        self._name = name_of(self._model)
        #: The tracer of the attempt that succeeded; set when one has.
        self.tracer: Tracer
        #: The attempts whose results are not used, in order.
        self.left: list[LeftAttempt] = []

    def complexity(self, ways: Sequence[Way] = WAYS) -> Complexity:
        """Return the complexity from the first attempt that succeeds.

        Args:
            ways: the ways that are allowed, of which the first is tried first.

        Raises:
            UsageError: no attempt without data succeeded, and the model or its inputs hold none.
            Exception: the exception of the last attempt.
        """
        attempt = Attempt(
            ways[0],
            gradients=self._takes_gradients(),
            own_hooks=ways[0] == "data" or not self._reuse_answers,
        )
        with ExitStack() as stack:
            stack.enter_context(gc_paused())
            while True:
                if attempt.way == "data":
                    stack.close()  # computing for real may leave much garbage
                outcome = self._try(attempt, ways)
                if not isinstance(outcome, Attempt):
                    return outcome
                attempt = outcome

    def _try(self, attempt: Attempt, ways: Sequence[Way]) -> Complexity | Attempt:
        """Return the complexity, or the attempt to make next. What the attempt made is freed before the next one."""
        trial = _Trial(attempt, existing_gradients=self._uses_existing_gradients())
        try:
            complexity = self._run_on_data(trial) if attempt.way == "data" else self._run_on_meta(trial)
        except Exception as error:
            left = trial.needs_repetition() or self._leave(trial, error, ways)
            self.left.append(left)
            if left.following is None:
                if left.asked_for_data is not None and "data" in ways:
                    raise self._needs_data(left) from error
                raise
            return left.following
        repeated = trial.needs_repetition()
        if repeated is None or repeated.following is None:
            return complexity
        self.left.append(repeated)
        return repeated.following

    def _leave(self, trial: _Trial, error: Exception, ways: Sequence[Way]) -> LeftAttempt:
        """Return why a failed attempt is left, and which attempt follows."""
        attempt, why = trial.attempt, "".join(traceback.format_exception_only(error)).strip()
        asked_for_data = without_data = None
        if isinstance(error, UsageError):
            return LeftAttempt(attempt, None, why)
        if attempt.way != "data":
            if trial.shapes_tracer is not None:
                asked_for_data = trial.shapes_tracer.asked_for_data
            if isinstance(error, ReadsMemoryError):
                asked_for_data = (error.instruction, "")
                with suppress(NoMetaCloneError):
                    # The model was refused before its inputs were cloned, and these may be the ones without data.
                    trial.cloner.clone((self._args, self._kwargs))
            without_data = find_tensor_without_data(trial.cloner)
        following: Attempt | None = None
        if asked_for_data is None and not attempt.gradients and torch.is_grad_enabled():
            # The model may compute gradients in its forward pass.
            following = replace(attempt, gradients=True)
        elif attempt.way == "shapes" and asked_for_data is not None and "integers" in ways:
            following = replace(attempt, way="integers", gradients=self._takes_gradients())
        elif attempt.way != "data" and without_data is None and "data" in ways:
            following = Attempt("data", gradients=self._takes_gradients(), own_hooks=True)
        return LeftAttempt(attempt, following, why, asked_for_data, without_data)

    def _needs_data(self, left: LeftAttempt) -> UsageError:
        operator, path = left.asked_for_data or ("an operator", "")
        return UsageError(
            f"{self._name} needs data, and {left.without_data} has none: {operator} in {path or 'the model itself'!r} "
            "returns sizes or values that depend on it; hand over real inputs (for masks that is often enough), "
            "or build the model on a real device too"
        )

    def _takes_gradients(self) -> bool:
        return self._backward or (not self._reuse_answers and torch.is_grad_enabled())

    def _uses_existing_gradients(self) -> bool:
        """Return whether gradients from before the run belong to what is measured.

        A training step may accumulate into them. A module alone does not, and a backward pass that `measure` adds has
        to count the same, no matter what was run before.
        """
        return not (self._backward or isinstance(self._model, torch.nn.Module))

    @staticmethod
    def _steps_optimizer(cloner: Cloner) -> bool:
        """Return whether an optimizer may step in the run. Its step does nothing without gradients."""
        return torch.is_grad_enabled() and bool(find_optimizers(cloner))

    def _run_on_meta(self, trial: _Trial) -> Complexity:
        attempt, cloner = trial.attempt, trial.cloner
        with isolated(), flex_attention.countable(on_meta=True):
            model, args, kwargs = self._clone_inputs(cloner)
            tracer = trial.shapes_tracer = ShapesTracer(_make_tracker(model), reuse_answers=self._reuse_answers)
            record_existing_gradients(tracer.memory, cloner, share_memory=False)
            _record_batch_sizes(tracer.known_values, cloner)
            record_step_counts(tracer.known_values, cloner)
            note_idle_steps(tracer, cloner)
            if attempt.way == "integers":
                _record_integers(tracer.known_values, cloner)
            else:
                _record_block_masks(tracer.known_values, cloner)
            with (
                recurrent_decomposed(tracer if self._reuse_answers else None),
                cpu_attention_on_meta(),
                tracer.tracker.following(cloner.modules),
                local_shards_only(cloner.modules, tracer, on_meta=True),
                autocast_on_meta(partial(_original_tensors, cloner)),
            ):
                gradients = attempt.gradients or self._steps_optimizer(cloner)
                self._traced(tracer, model, args, kwargs, gradients=gradients)
            reshard(cloner.modules)
            record_resident_tensors(tracer.tracker, cloner)
        if tracer.asked_for_data is not None:
            # The model caught the exception, and may have taken another path than it takes with data.
            raise NeedsDataError(tracer.asked_for_data[0])
        return self._complexity(tracer, "real" if attempt.way == "integers" else "shapes")

    def _run_on_data(self, trial: _Trial) -> Complexity:
        attempt, cloner = trial.attempt, trial.cloner
        with isolated(), flex_attention.countable(on_meta=False):
            model, args, kwargs = self._clone_inputs(cloner)
            tracer = RealTracer(_make_tracker(model))
            record_existing_gradients(tracer.memory, cloner, share_memory=True)
            note_idle_steps(tracer, cloner)
            gradients = attempt.gradients or self._steps_optimizer(cloner)
            try:
                with (
                    tracer.tracker.following(cloner.modules),
                    local_shards_only(cloner.modules, tracer, on_meta=False),
                ):
                    self._traced(tracer, model, args, kwargs, gradients=gradients)
                reshard(cloner.modules)
                record_resident_tensors(tracer.tracker, cloner)
            finally:
                tracer.restore()
        return self._complexity(tracer, "real")

    def _clone_inputs(self, cloner: Cloner) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        clones = cloner.clone(self._model), cloner.clone(self._args), cloner.clone(self._kwargs)
        disable_logging(cloner.modules)
        return clones

    def _traced(
        self,
        tracer: Tracer,
        model: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        gradients: bool,
    ) -> None:
        with (
            higher_order_decomposed(tracer),
            undispatched_noted(tracer),
            following_steps(tracer.steps),
            other_threads_tracked(tracer.tracker),
            tracer.memory.following_resizes(),
            tracer,
            torch.set_grad_enabled(gradients),
        ):
            output = take_lazy_outputs(model(*args, **kwargs), tracer.notes, keep=self._backward)
            if has_process_group():
                wait_for(iterate_tensors(output))
            if self._backward:
                run_backward(output)

    def _complexity(self, tracer: Tracer, execution: Execution) -> Complexity:
        self.tracer = tracer
        return build_complexity(
            tracer,
            model=self._name,
            inputs=signature_of(self._args, self._kwargs),
            execution=execution,
            backward=self._backward,
            devices=self._devices,
        )


def run_backward(outputs: Any) -> None:
    """Run the backward pass of the sum of all outputs that can be differentiated.

    Raises:
        UsageError: no output requires a gradient.
    """
    tensors = [
        leaf
        for leaf in iterate_tensors(outputs)
        if leaf.requires_grad and (leaf.is_floating_point() or leaf.is_complex())
    ]
    if not tensors:
        raise UsageError(
            "backward=True, but no output of the model requires a gradient; check requires_grad of its parameters, "
            "or measure without backward"
        )
    # The gradient of a sum is one for each of its terms.
    seeds = [
        torch.ones_like(item)
        if item.is_nested or is_sharded(item)
        else torch.ones((), dtype=item.dtype, device=item.device).expand_as(item)
        for item in tensors
    ]
    torch.autograd.backward(tensors, seeds)


def _make_tracker(model: Callable[..., Any]) -> ModuleTracker:
    module = _find_module(model)
    tracker = ModuleTracker(module, name_of(model))
    if not isinstance(model, torch.nn.Module):
        tracker.root.calls = 1
        tracker.root.type = name_of(model)
    return tracker


def _find_module(model: Callable[..., Any]) -> torch.nn.Module | None:
    """Return the module that ``model`` is, or whose method it is."""
    if isinstance(model, torch.nn.Module):
        return model
    owner = getattr(getattr(model, "func", model), "__self__", None)
    return owner if isinstance(owner, torch.nn.Module) else None


def _record_block_masks(known_values: KnownValues, cloner: Cloner) -> None:
    """Make known which blocks FlexAttention's masks skip: a setting of the model, though tensors hold it."""
    for original, clone in cloner.objects:
        for count, its_clone in zip(
            flex_attention.block_counts(original), flex_attention.block_counts(clone), strict=True
        ):
            if has_data(count):
                known_values.remember(its_clone, count)


def _record_batch_sizes(known_values: KnownValues, cloner: Cloner) -> None:
    """Make known the batch sizes of packed sequences: recurrent layers read them as numbers."""
    for packed in cloner.packed_sequences:
        known_values.track_on_cpu(packed.batch_sizes)


def _record_integers(known_values: KnownValues, cloner: Cloner) -> None:
    known_values.max_elements = MAX_INTEGER_ELEMENTS
    for original, clone in cloner.clones():
        if (
            isinstance(original, torch.Tensor)
            and not (original.is_floating_point() or original.is_complex())
            and has_data(original)
            and original.numel() <= MAX_INTEGER_ELEMENTS
        ):
            known_values.remember(clone, original)


def find_tensor_without_data(cloner: Cloner) -> str | None:
    """Return the first cloned tensor that holds no data, in words; None if all of them hold data."""
    names: dict[int, str] = {}
    tensors: list[torch.Tensor] = []
    for original, _ in cloner.clones():
        if isinstance(original, torch.nn.Module):
            held = (*original.named_parameters(), *original.named_buffers())
            for name, tensor in held:
                names.setdefault(id(tensor), name)
            if isinstance(original, torch.jit.ScriptModule):
                tensors.extend(tensor for _, tensor in held)  # a scripted module is cloned as a whole
        elif isinstance(original, torch.Tensor):
            tensors.append(original)
    empty = next((tensor for tensor in tensors if not has_data(tensor)), None)
    if empty is None:
        return None
    return f"{names.get(id(empty), 'an input')} ({'a fake tensor' if is_fake(empty) else 'on the meta device'})"


def _original_tensors(cloner: Cloner) -> Iterator[torch.Tensor]:
    return (original for original, _ in cloner.clones() if isinstance(original, torch.Tensor))
