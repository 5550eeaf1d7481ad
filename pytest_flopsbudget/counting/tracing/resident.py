"""Find the resident tensors: parameters, buffers, gradients, optimizer state and inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.cloning.optimizers import find_optimizers
from pytest_flopsbudget.counting.cloning.tensors import storage_tensors
from pytest_flopsbudget.counting.tensors.packed import packed_size
from pytest_flopsbudget.counting.tracing.phases import states_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_flopsbudget.counting.cloning.cloner import Cloner
    from pytest_flopsbudget.counting.tracing.memory import Memory
    from pytest_flopsbudget.counting.tracing.modules import ModuleTracker


def record_existing_gradients(memory: Memory, cloner: Cloner, *, share_memory: bool) -> None:
    """Record the clones of gradients that existed before the run. Call this when everything is cloned.

    Args:
        memory: the account of memory that follows the gradients.
        cloner: the cloner that made the clones. Its references to the gradients are dropped.
        share_memory: whether a clone shares memory with its original.
    """
    memory.record_gradients(cloner.release_gradients(), share_memory=share_memory)


def record_resident_tensors(tracker: ModuleTracker, cloner: Cloner) -> None:
    """Set the kinds of all resident tensors, and call `Memory.close`.

    Call this after the run, because the run makes some resident tensors, such as the state of an optimizer.
    """
    memory = tracker.memory
    record_module_tensors(memory, cloner.modules)
    record_packed_weights(tracker, cloner.packed_weights.values())
    for optimizer in find_optimizers(cloner):
        memory.assign_kind("optimizer_state", storage_tensors(states_of(optimizer)))
    memory.assign_kind(
        "inputs", storage_tensors(clone for _, clone in cloner.clones() if isinstance(clone, torch.Tensor))
    )
    memory.close()


def record_module_tensors(memory: Memory, modules: Iterable[torch.nn.Module]) -> None:
    """Set the kinds of the parameters, gradients and buffers of these modules."""
    for module in modules:
        parameters = _present(module._parameters)
        memory.assign_kind("parameters", storage_tensors(parameters))
        memory.assign_kind("gradients", storage_tensors(parameter.grad for parameter in parameters))
        memory.assign_kind("buffers", storage_tensors(_present(module._buffers)))


def record_packed_weights(tracker: ModuleTracker, weights: Iterable[torch.ScriptObject]) -> None:
    """Record the sizes of packed weights. Packed weights count as parameters, but are no `torch.nn.Parameter`."""
    tracker.packed_weights = {hash(weight): packed_size(weight) for weight in weights}
    tracker.memory.add_resident("parameters", sum(size.stored for size in tracker.packed_weights.values()))


def _present(tensors: Mapping[str, Any]) -> list[Any]:
    return [tensor for tensor in tensors.values() if tensor is not None]
