"""Find the resident tensors: parameters, buffers, gradients, optimizer state and inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from pytest_flopsbudget.counting.cloning.optimizers import find_optimizers
from pytest_flopsbudget.counting.distributed.dtensor import local_tensor
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, is_wrapper, wrapped_tensors
from pytest_flopsbudget.counting.tracing.phases import states_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_flopsbudget.counting.cloning.cloner import Cloner
    from pytest_flopsbudget.counting.tracing.memory import Memory


def record_resident_tensors(memory: Memory, cloner: Cloner) -> None:
    """Set the kinds of all resident tensors, and close ``memory``.

    It is called when the run is over. The clones keep these tensors alive until then, and the run made some of them.
    """
    record_module_tensors(memory, cloner.modules)
    for optimizer in find_optimizers(cloner):
        memory.assign_kind("optimizer_state", _storage_tensors(states_of(optimizer)))
    memory.assign_kind(
        "inputs", _storage_tensors(clone for _, clone in cloner.clones() if isinstance(clone, torch.Tensor))
    )
    memory.close()


def record_module_tensors(memory: Memory, modules: Iterable[torch.nn.Module]) -> None:
    """Set the kinds of the parameters, gradients and buffers of these modules."""
    for module in modules:
        parameters = _present(module._parameters)
        memory.assign_kind("parameters", _storage_tensors(parameters))
        memory.assign_kind("gradients", _storage_tensors(parameter.grad for parameter in parameters))
        memory.assign_kind("buffers", _storage_tensors(_present(module._buffers)))


def _present(tensors: Mapping[str, Any]) -> list[Any]:
    return [tensor for tensor in tensors.values() if tensor is not None]


def _storage_tensors(tensors: Iterable[torch.Tensor | None]) -> Iterator[torch.Tensor]:
    """Yield the tensors that hold the data: the local part of a DTensor, the inner tensors of a wrapper subclass."""
    for tensor in tensors:
        if tensor is None or isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            continue
        if type(tensor) in PLAIN_TYPES:
            yield tensor
        elif is_wrapper(part := local_tensor(tensor)):
            yield from _storage_tensors(wrapped_tensors(part).values())
        else:
            yield part
