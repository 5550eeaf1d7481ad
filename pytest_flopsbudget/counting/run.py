"""Run one model until an attempt succeeds: on shapes, on shapes and the values of some tensors, or on data."""

from __future__ import annotations

import weakref
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from pytest_flopsbudget.counting.aggregation.result import build_complexity
from pytest_flopsbudget.counting.attempts import (
    SHAPES_ONLY,
    WAYS,
    Attempt,
    Failure,
    LeftAttempt,
    ShapesOnlyError,
    choose_next,
    describe,
    needs_data,
    notes_on,
)
from pytest_flopsbudget.counting.cloning.lightning import disable_logging
from pytest_flopsbudget.counting.cloning.optimizers import find_optimizers, note_idle_steps, record_step_counts
from pytest_flopsbudget.counting.cloning.torchscript import ReadsMemoryError
from pytest_flopsbudget.counting.cloning.wrapped import unwrap_compiled
from pytest_flopsbudget.counting.distributed.data_parallel import reshard
from pytest_flopsbudget.counting.distributed.dtensor import is_sharded, local_shards_only, wait_for
from pytest_flopsbudget.counting.distributed.world import has_process_group
from pytest_flopsbudget.counting.higher_order import flex_attention
from pytest_flopsbudget.counting.higher_order.control_flow import higher_order_decomposed
from pytest_flopsbudget.counting.isolation.global_state import gc_paused, isolated
from pytest_flopsbudget.counting.isolation.referrers import NewObjects
from pytest_flopsbudget.counting.lazy_outputs import take_lazy_outputs
from pytest_flopsbudget.counting.meta.attention import cpu_attention_on_meta
from pytest_flopsbudget.counting.meta.autocast import autocast_on_meta
from pytest_flopsbudget.counting.meta.devices import Devices
from pytest_flopsbudget.counting.meta.known_values import MAX_INTEGER_ELEMENTS
from pytest_flopsbudget.counting.meta.recurrent import recurrent_decomposed
from pytest_flopsbudget.counting.original_values import (
    find_settings,
    find_tensor_without_data,
    may_be_known_later,
    original_tensors,
    record_batch_sizes,
    record_block_masks,
    record_integers,
    record_masks,
)
from pytest_flopsbudget.counting.tensors.metadata import NoMetaCloneError
from pytest_flopsbudget.counting.tensors.traversal import iterate_tensors
from pytest_flopsbudget.counting.tracing.absent_devices import (
    absent_cuda_idle,
    absent_devices_named,
    autocast_of_absent_devices,
    is_about_absent_device,
)
from pytest_flopsbudget.counting.tracing.canary import canary_notes
from pytest_flopsbudget.counting.tracing.labels import name_of, signature_of
from pytest_flopsbudget.counting.tracing.modules import ModuleTracker
from pytest_flopsbudget.counting.tracing.other_threads import other_threads_tracked
from pytest_flopsbudget.counting.tracing.past_dispatcher import answered_past_dispatcher
from pytest_flopsbudget.counting.tracing.phases import following_steps
from pytest_flopsbudget.counting.tracing.real import RealTracer
from pytest_flopsbudget.counting.tracing.resident import record_existing_gradients, record_resident_tensors
from pytest_flopsbudget.counting.tracing.shapes import NeedsDataError, ShapesTracer
from pytest_flopsbudget.counting.tracing.undispatched import undispatched_noted
from pytest_flopsbudget.counting.tracing.value_reads import TEXT, lists_in_index_kept
from pytest_flopsbudget.counting.trial import Trial, caches_outside
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_flopsbudget.counting.attempts import Way
    from pytest_flopsbudget.counting.cloning.cloner import Cloner
    from pytest_flopsbudget.counting.isolation.caches import OutsideCaches
    from pytest_flopsbudget.counting.observer import Observer
    from pytest_flopsbudget.counting.tracing.tracer import Tracer
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.data import Execution


#: Part of PyTorch's error message if the C++ code of a composite operator reads a tensor on meta.
_UNALLOCATED = "data is not allocated yet"


class Run:
    """One model with its inputs. The model is run in one way after another until an attempt succeeds."""

    def __init__(  # noqa: PLR0913 -- the parameters of `measure`
        self,
        model: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        backward: bool,
        *,
        reuse_answers: bool = True,
        devices: Sequence[Device] = (),
        observer: Observer | None = None,
    ) -> None:
        self._reuse_answers, self._devices, self._observer = reuse_answers, devices, observer
        self._model: Callable[..., Any] = unwrap_compiled(model)
        self._args, self._kwargs, self._backward = args, kwargs, backward
        self._name = name_of(self._model)
        #: The tracer of the attempt that succeeded. It is set after this attempt.
        self.tracer: Tracer
        #: The attempts whose results are not used, in order.
        self.left: list[LeftAttempt] = []
        #: The caches outside of the model, with their content before the first attempt.
        self._outside: OutsideCaches | None = None

    def complexity(self, ways: Sequence[Way] = WAYS) -> Complexity:
        """Return the complexity from the first attempt that succeeds.

        Args:
            ways: the allowed ways to run the model. The first one is tried first.

        Raises:
            UsageError: no attempt without data succeeded, and a tensor of the model or its inputs holds no data.
            Exception: the exception of the last attempt.
        """
        attempt = Attempt(
            ways[0],
            gradients=self._takes_gradients(),
            own_hooks=ways[0] == "data" or not self._reuse_answers,
        )
        with ExitStack() as paused:
            paused.enter_context(gc_paused())
            while True:
                if attempt.way == "data":
                    paused.close()  # a run on data may leave much garbage
                with NewObjects() as new_objects:
                    trial = Trial(attempt, existing_gradients=self._uses_existing_gradients())
                    try:
                        outcome = self._try(trial, ways)
                    except Exception:
                        trial.restore_caches(self._outside, new_objects)
                        raise
                    kept = trial.restore_caches(self._outside, new_objects)
                if kept:
                    raise UsageError(
                        f"{self._name}: its run left a tensor of the measurement in {kept[0]}, and the value from "
                        "before the run is not known (an attribute is None now); keep such a tensor in a buffer of the "
                        "model, in a dict or in functools.lru_cache"
                    )
                if not isinstance(outcome, Attempt):
                    return outcome
                attempt = outcome

    def _try(self, trial: Trial, ways: Sequence[Way]) -> Complexity | Attempt:
        """Make one attempt. Return the complexity, or the next attempt if this attempt gives no result.

        After this method has returned, nothing keeps the objects of this attempt alive during the next attempt.
        """
        try:
            complexity = self._run_on_data(trial) if trial.attempt.way == "data" else self._run_on_meta(trial, ways)
        except Exception as error:
            repeated = trial.repetition()
            if repeated is not None:
                self.left.append(LeftAttempt(trial.attempt, repeated))
                return repeated
            if isinstance(error, UsageError):
                raise
            failure = self._failure(trial, error)
            following = choose_next(
                trial.attempt,
                failure,
                ways,
                needs_gradients=self._takes_gradients(),
                may_enable_gradients=torch.is_grad_enabled(),
            )
            self.left.append(LeftAttempt(trial.attempt, following, failure))
            if following is not None:
                return following
            if failure.lacks_device and trial.attempt.way == "data":
                raise self._needs_device(failure) from error
            if failure.asked_for_data is not None and ("data" in ways or ways == SHAPES_ONLY):
                raise self._needs_data(failure, failure.asked_for_data, ways) from error
            raise
        repeated = trial.repetition()
        if repeated is None:
            notes = tuple(sorted({*complexity.notes, *notes_on(self.left, trial.attempt)}))
            return msgspec.structs.replace(complexity, notes=notes)
        self.left.append(LeftAttempt(trial.attempt, repeated))
        return repeated

    def _failure(self, trial: Trial, error: Exception) -> Failure:
        failure = Failure(describe(error), lacks_device=is_about_absent_device(error))
        if trial.attempt.way == "data":
            return failure
        asked = trial.tracer.asked_for_data if isinstance(trial.tracer, ShapesTracer) else None
        if asked is None and _UNALLOCATED in str(error):
            asked = ("C++ code that reads a tensor", "")
        if isinstance(error, NoMetaCloneError):
            asked = (str(error), "")
        if isinstance(error, ReadsMemoryError):
            asked = (error.instruction, "")
            with suppress(NoMetaCloneError):
                # The model was refused before its inputs were cloned. Clone them now, to find inputs without data.
                trial.cloner.clone((self._args, self._kwargs))
        return replace(
            failure,
            asked_for_data=asked,
            without_data=find_tensor_without_data(trial.cloner),
            wants_text=asked is not None and asked[0] == TEXT,
            lost_list=isinstance(trial.tracer, ShapesTracer) and trial.tracer.lost_list,
            needs_all_data=isinstance(error, (NoMetaCloneError, ReadsMemoryError)),
            has_settings=asked is not None and self._has_settings(trial),
        )

    @staticmethod
    def _has_settings(trial: Trial) -> bool:
        left_out = isinstance(trial.tracer, ShapesTracer) and trial.tracer.known_values.left_out
        return left_out or next(find_settings(trial.cloner), None) is not None

    def _needs_data(self, failure: Failure, asked: tuple[str, str], ways: Sequence[Way]) -> UsageError:
        if "data" not in ways:
            return ShapesOnlyError(
                f'{self._name} cannot be counted on shapes alone, as shapes = "only" demands: {needs_data(asked)}; '
                'allow runs on data with shapes = "preferred", or take that part out of what is measured',
                needs_data(asked),
            )
        operator, path = asked
        return UsageError(
            f"{self._name} needs data, and {failure.without_data} has none: {operator} in "
            f"{path or 'the model itself'!r} returns sizes or values that depend on it; hand over real inputs (for "
            "masks that is often enough), or build the model on a real device too"
        )

    def _needs_device(self, failure: Failure) -> UsageError:
        failures = [one.failure for one in self.left if one.failure is not None]
        asked = next((one.asked_for_data for one in reversed(failures) if one.asked_for_data is not None), None)
        reason = f"it cannot be counted on shapes ({failures[0].text})" if asked is None else needs_data(asked)
        return UsageError(
            f"{self._name} uses a device that this machine does not have ({failure.text}); on shapes that would not "
            f"matter, but {reason}; measure it on a machine that has the device, or without that need for data"
        )

    def _takes_gradients(self) -> bool:
        return self._backward or (not self._reuse_answers and torch.is_grad_enabled())

    def _uses_existing_gradients(self) -> bool:
        """Return whether the run may use gradients that existed before the run.

        A measured function may use them, for example a training step that accumulates gradients. A call of a module
        alone uses none. The backward pass that `measure` adds uses none either, because its count must not depend on
        earlier runs.
        """
        return not (self._backward or isinstance(self._model, torch.nn.Module))

    @staticmethod
    def _steps_optimizer(cloner: Cloner) -> bool:
        """Return whether an optimizer may make a step during the run. The run then enables gradients."""
        return torch.is_grad_enabled() and bool(find_optimizers(cloner))

    def _run_on_meta(self, trial: Trial, ways: Sequence[Way]) -> Complexity:
        attempt, cloner = trial.attempt, trial.cloner
        with isolated(), flex_attention.countable(on_meta=True):
            model, args, kwargs = self._clone_inputs(trial)
            tracer = trial.tracer = ShapesTracer(_make_tracker(model), reuse_answers=self._reuse_answers)
            tracer.devices = Devices.of_clones(cloner.originals, cloner.clone_of)
            record_existing_gradients(tracer.memory, cloner, share_memory=False)
            record_batch_sizes(tracer.known_values, cloner)
            record_step_counts(tracer.known_values, cloner)
            note_idle_steps(tracer, cloner)
            tracer.may_be_known_later = partial(may_be_known_later, cloner, ways[ways.index(attempt.way) + 1 :])
            if attempt.way != "shapes":
                tracer.known_values.max_elements = MAX_INTEGER_ELEMENTS
            if attempt.way == "integers":
                record_integers(tracer.known_values, cloner)
            else:
                record_block_masks(tracer.known_values, cloner)
            if attempt.way != "shapes":
                for setting in find_settings(cloner):
                    tracer.known_values.remember_original(cloner.clone_of(setting), setting)
            record_masks(tracer.deferred, cloner)
            with (
                recurrent_decomposed(tracer if self._reuse_answers else None),
                cpu_attention_on_meta(),
                tracer.tracker.following(cloner.modules),
                local_shards_only(cloner.modules, tracer, on_meta=True),
                autocast_on_meta(partial(original_tensors, cloner), tracer.devices.of_meta),
                autocast_of_absent_devices(),
                answered_past_dispatcher(tracer),
                absent_devices_named(tracer.devices) if attempt.any_device else nullcontext(),
                lists_in_index_kept() if attempt.keeps_lists else nullcontext(),
                absent_cuda_idle() if attempt.any_device else nullcontext(),
            ):
                gradients = attempt.gradients or self._steps_optimizer(cloner)
                self._traced(tracer, cloner, model, args, kwargs, gradients=gradients)
            reshard(cloner.modules)
            record_resident_tensors(tracer.tracker, cloner)
        if tracer.asked_for_data is not None:
            # The model caught the exception. It may then have taken another path than with data.
            raise NeedsDataError(tracer.asked_for_data[0])
        return self._complexity(tracer, "real" if attempt.way == "integers" else "shapes")

    def _run_on_data(self, trial: Trial) -> Complexity:
        attempt, cloner = trial.attempt, trial.cloner
        with isolated(), flex_attention.countable(on_meta=False):
            model, args, kwargs = self._clone_inputs(trial)
            tracer = trial.tracer = RealTracer(_make_tracker(model))
            record_existing_gradients(tracer.memory, cloner, share_memory=True)
            note_idle_steps(tracer, cloner)
            gradients = attempt.gradients or self._steps_optimizer(cloner)
            try:
                with (
                    tracer.tracker.following(cloner.modules),
                    local_shards_only(cloner.modules, tracer, on_meta=False),
                ):
                    self._traced(tracer, cloner, model, args, kwargs, gradients=gradients)
                reshard(cloner.modules)
                record_resident_tensors(tracer.tracker, cloner)
            finally:
                tracer.restore()
        return self._complexity(tracer, "real")

    def _clone_inputs(self, trial: Trial) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        cloner = trial.cloner
        model, args, kwargs = cloner.clone(self._model), cloner.clone(self._args), cloner.clone(self._kwargs)
        disable_logging(cloner.modules)
        trial.clones = [weakref.ref(clone) for clone in (*cloner.modules[:1], *iterate_tensors((args, kwargs)))]
        if self._outside is None:
            self._outside = caches_outside(self._model, cloner)
        return model, args, kwargs

    def _traced(  # noqa: PLR0913 -- a call, and how it is traced
        self,
        tracer: Tracer,
        cloner: Cloner,
        model: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        gradients: bool,
    ) -> None:
        if self._observer is not None:
            self._observer.begin(tracer, cloner.modules)
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
        if self._observer is not None:
            self._observer.end(tracer, output)

    def _complexity(self, tracer: Tracer, execution: Execution) -> Complexity:
        self.tracer = tracer
        tracer.notes.update(canary_notes())
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
    # The gradient of a sum with respect to each of its terms is one.
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
    """Return ``model`` if it is a module, or the module that ``model`` is a method of. Otherwise, return None."""
    if isinstance(model, torch.nn.Module):
        return model
    owner = getattr(getattr(model, "func", model), "__self__", None)
    return owner if isinstance(owner, torch.nn.Module) else None
