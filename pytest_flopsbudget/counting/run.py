"""One model with its inputs, run on shapes or for real."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.aggregation.result import build_complexity
from pytest_flopsbudget.counting.cloning.cloner import Cloner, clone_sharing_data, clone_to_meta, unwrap_compiled
from pytest_flopsbudget.counting.cloning.lightning import disable_logging
from pytest_flopsbudget.counting.cloning.optimizers import find_optimizers, note_idle_steps, record_step_counts
from pytest_flopsbudget.counting.cloning.torchscript import ReadsMemoryError
from pytest_flopsbudget.counting.distributed.data_parallel import reshard
from pytest_flopsbudget.counting.distributed.dtensor import is_sharded, local_shards_only, wait_for
from pytest_flopsbudget.counting.distributed.world import has_process_group
from pytest_flopsbudget.counting.higher_order import flex_attention
from pytest_flopsbudget.counting.higher_order.control_flow import higher_order_decomposed
from pytest_flopsbudget.counting.isolation.global_state import isolated
from pytest_flopsbudget.counting.meta.attention import cpu_attention_on_meta
from pytest_flopsbudget.counting.meta.autocast import autocast_on_meta
from pytest_flopsbudget.counting.meta.known_values import MAX_INTEGER_ELEMENTS
from pytest_flopsbudget.counting.meta.recurrent import recurrent_decomposed
from pytest_flopsbudget.counting.tensors.traversal import iterate_tensors
from pytest_flopsbudget.counting.torch_private import FakeTensor
from pytest_flopsbudget.counting.tracing.labels import name_of, signature_of
from pytest_flopsbudget.counting.tracing.modules import ModuleTracker
from pytest_flopsbudget.counting.tracing.other_threads import other_threads_tracked
from pytest_flopsbudget.counting.tracing.phases import following_steps
from pytest_flopsbudget.counting.tracing.real import RealTracer
from pytest_flopsbudget.counting.tracing.resident import record_resident_tensors
from pytest_flopsbudget.counting.tracing.shapes import NeedsDataError, ShapesTracer
from pytest_flopsbudget.counting.tracing.undispatched import undispatched_noted
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_flopsbudget.counting.meta.known_values import KnownValues
    from pytest_flopsbudget.counting.tracing.tracer import Tracer
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity, Execution


class _Run:
    """One model with its arguments, to be run in one way or the other."""

    def __init__(  # noqa: PLR0913 -- as `measure` is called
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
        self.name = name_of(self._model)
        #: What counted; there once it has.
        self.tracer: Tracer
        #: (operator, module) that could not do with shapes.
        self.asked_for_data: tuple[str, str] | None = None
        #: The first tensor that holds no data, in words; known after a run on shapes.
        self.without_data: str | None = None
        #: Whether doubles of modules without hooks have dicts to put some in.
        self._own_hooks = not reuse_answers

    def on_shapes(self) -> tuple[Complexity | None, Exception | None]:
        """The complexity, or why it could not be had from shapes."""
        return self._run_on_meta("shapes", _record_block_masks)

    def on_integers(self) -> tuple[Complexity | None, Exception | None]:
        """The complexity from shapes, and from what the integer and boolean tensors hold: masks, lengths, indices.

        Much of what asks for data asks for these, which are small, and often real where a model is on ``meta``.
        """
        return self._run_on_meta("real", _record_integers)

    def _run_on_meta(
        self, execution: Execution, prepare: Callable[[KnownValues, Cloner], None]
    ) -> tuple[Complexity | None, Exception | None]:
        result, failure = self._run_on_meta_with_hooks(execution, prepare, gradients=self._takes_gradients())
        if failure is not None and self.asked_for_data is None and self._may_take_gradients():
            result, failure = self._run_on_meta_with_hooks(execution, prepare, gradients=True)
        return result, failure

    def _run_on_meta_with_hooks(
        self, execution: Execution, prepare: Callable[[KnownValues, Cloner], None], *, gradients: bool
    ) -> tuple[Complexity | None, Exception | None]:
        result, failure, cloner = self._run_on_meta_once(execution, prepare, gradients=gradients)
        if cloner.lacks_hooks:
            self._own_hooks, self.asked_for_data = True, None
            result, failure, _ = self._run_on_meta_once(execution, prepare, gradients=gradients)
        return result, failure

    def _takes_gradients(self) -> bool:
        return self._backward or (not self._reuse_answers and torch.is_grad_enabled())

    def _has_gradients(self) -> bool:
        """Whether the gradients that are there already are a part of what is measured.

        A training step may go on from them. A model by itself does not, and a backward pass that was asked for has to
        count the same whatever was run before.
        """
        return not (self._backward or isinstance(self._model, torch.nn.Module))

    @staticmethod
    def _trains(cloner: Cloner) -> bool:
        """Whether there is a step of an optimizer in what is measured, which does nothing without gradients."""
        return torch.is_grad_enabled() and bool(find_optimizers(cloner))

    def _may_take_gradients(self) -> bool:
        """Whether a forward pass that failed without gradients may be one that takes some on its way.

        Nearly none does, and without them a model runs faster.
        """
        return torch.is_grad_enabled() and not self._takes_gradients()

    def _run_on_meta_once(
        self, execution: Execution, prepare: Callable[[KnownValues, Cloner], None], *, gradients: bool
    ) -> tuple[Complexity | None, Exception | None, Cloner]:
        cloner = Cloner(clone_to_meta, own_hooks=self._own_hooks, gradients=self._has_gradients())
        tracer = None
        try:
            with isolated(), flex_attention.countable(on_meta=True):
                model, args, kwargs = self._clone_inputs(cloner)
                tracer = ShapesTracer(_tracker_of(model), reuse_answers=self._reuse_answers)
                _record_batch_sizes(tracer.known_values, cloner)
                record_step_counts(tracer.known_values, cloner)
                note_idle_steps(tracer, cloner)
                gradients = gradients or self._trains(cloner)
                prepare(tracer.known_values, cloner)
                shared_tracer = tracer if self._reuse_answers else None
                casting = autocast_on_meta(partial(_original_tensors, cloner))
                with (
                    recurrent_decomposed(shared_tracer),
                    cpu_attention_on_meta(),
                    tracer.tracker.following(cloner.modules),
                    local_shards_only(cloner.modules, tracer, on_meta=True),
                    casting,
                ):
                    self._traced(tracer, model, args, kwargs, gradients=gradients)
                reshard(cloner.modules)
                record_resident_tensors(tracer.memory, cloner)
            if tracer.asked_for_data is None:
                return self._complexity(tracer, execution), None, cloner
            failure: Exception = NeedsDataError(tracer.asked_for_data[0])
        except UsageError:
            raise
        except ReadsMemoryError as error:
            cloner.clone((self._args, self._kwargs))  # to know whether these hold data
            self.asked_for_data, self.without_data = (error.instruction, ""), find_tensor_without_data(cloner)
            return None, error, cloner
        except Exception as error:  # noqa: BLE001 -- whether it is the model's own, running for real will show
            failure = error
        self.asked_for_data = None if tracer is None else tracer.asked_for_data
        self.without_data = find_tensor_without_data(cloner)
        return None, failure, cloner

    def for_real(self) -> Complexity:
        """The complexity as it is with this data."""
        try:
            return self._for_real_once(gradients=self._takes_gradients())
        except UsageError:
            raise
        except Exception:
            if not self._may_take_gradients():
                raise
        return self._for_real_once(gradients=True)

    def _for_real_once(self, *, gradients: bool) -> Complexity:
        with isolated(), flex_attention.countable(on_meta=False):
            cloner = Cloner(clone_sharing_data, gradients=self._has_gradients())
            model, args, kwargs = self._clone_inputs(cloner)
            tracer = RealTracer(_tracker_of(model))
            note_idle_steps(tracer, cloner)
            gradients = gradients or self._trains(cloner)
            try:
                with (
                    tracer.tracker.following(cloner.modules),
                    local_shards_only(cloner.modules, tracer, on_meta=False),
                ):
                    self._traced(tracer, model, args, kwargs, gradients=gradients)
                reshard(cloner.modules)
                record_resident_tensors(tracer.memory, cloner)
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
            output = model(*args, **kwargs)
            if has_process_group():
                wait_for(iterate_tensors(output))
            if self._backward:
                run_backward(output)

    def _complexity(self, tracer: Tracer, execution: Execution) -> Complexity:
        self.tracer = tracer
        return build_complexity(
            tracer,
            model=self.name,
            inputs=signature_of(self._args, self._kwargs),
            execution=execution,
            backward=self._backward,
            devices=self._devices,
        )


def run_backward(outputs: Any) -> None:
    """Run the backward pass of the sum of all outputs that can be differentiated."""
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
    # Seeds of ones are what the sum's own backward would hand on.
    seeds = [
        torch.ones_like(item)
        if item.is_nested or is_sharded(item)
        else torch.ones((), dtype=item.dtype, device=item.device).expand_as(item)
        for item in tensors
    ]
    torch.autograd.backward(tensors, seeds)


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


def _record_block_masks(known_values: KnownValues, cloner: Cloner) -> None:
    """The structure of an attention mask is a setting of the model, though it is held in tensors."""
    for original, clone in cloner.objects:
        for count, its_clone in zip(
            flex_attention.block_counts(original), flex_attention.block_counts(clone), strict=True
        ):
            if not (count.is_meta or _is_fake(count)):
                known_values.remember(its_clone, count)


def _record_batch_sizes(known_values: KnownValues, cloner: Cloner) -> None:
    """The batch sizes of packed sequences are real, and read by the layers that they are handed to."""
    for packed in cloner.packed_sequences:
        known_values.track_on_cpu(packed.batch_sizes)


def _record_integers(known_values: KnownValues, cloner: Cloner) -> None:
    known_values.max_elements = MAX_INTEGER_ELEMENTS
    for original, clone in cloner.clones():
        if isinstance(original, torch.Tensor) and not (
            original.is_floating_point()
            or original.is_complex()
            or original.is_meta
            or _is_fake(original)
            or original.numel() > MAX_INTEGER_ELEMENTS
        ):
            known_values.remember(clone, original)


def find_tensor_without_data(cloner: Cloner) -> str | None:
    """The first doubled tensor that holds no data, in words; None where all of them do."""
    names: dict[int, str] = {}
    tensors: list[torch.Tensor] = []
    for original, _ in cloner.clones():
        if isinstance(original, torch.nn.Module):
            held = (*original.named_parameters(), *original.named_buffers())
            for name, tensor in held:
                names.setdefault(id(tensor), name)
            if isinstance(original, torch.jit.ScriptModule):
                tensors.extend(tensor for _, tensor in held)  # which are doubled with it, and not by themselves
        elif isinstance(original, torch.Tensor):
            tensors.append(original)
    empty = next((tensor for tensor in tensors if tensor.is_meta or _is_fake(tensor)), None)
    if empty is None:
        return None
    return f"{names.get(id(empty), 'an input')} ({'a fake tensor' if _is_fake(empty) else 'on the meta device'})"


def _original_tensors(cloner: Cloner) -> Iterator[torch.Tensor]:
    return (original for original, _ in cloner.clones() if isinstance(original, torch.Tensor))


def _is_fake(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, FakeTensor)
