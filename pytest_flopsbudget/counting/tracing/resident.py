"""What a measurement found in place: parameters, buffers, gradients, the state of optimizers, inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from pytest_flopsbudget.counting.cloning.optimizers import optimizers_in
from pytest_flopsbudget.counting.distributed.dtensor import local
from pytest_flopsbudget.counting.tensors.metadata import PLAIN, parts_of, wraps_others
from pytest_flopsbudget.counting.tracing.phases import states_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_flopsbudget.counting.cloning.cloner import Shadow
    from pytest_flopsbudget.counting.tracing.memory import Memory


def name_holdings(memory: Memory, shadow: Shadow) -> None:
    """Say what the doubles hold, once the run is over: nothing of it ends before, and some was made meanwhile."""
    name_modules(memory, shadow.modules)
    for optimizer in optimizers_in(shadow):
        memory.holds("optimizer_state", _whole(states_of(optimizer)))
    memory.holds("inputs", _whole(double for _, double in shadow.doubles() if isinstance(double, torch.Tensor)))
    memory.close()


def name_modules(memory: Memory, modules: Iterable[torch.nn.Module]) -> None:
    """Say what is a parameter, a gradient, a buffer."""
    for module in modules:
        parameters = _held(module, "_parameters")
        memory.holds("parameters", _whole(parameters))
        memory.holds("gradients", _whole(parameter.grad for parameter in parameters))
        memory.holds("buffers", _whole(_held(module, "_buffers")))


def _held(module: torch.nn.Module, kind: str) -> list[Any]:
    return [tensor for tensor in getattr(module, kind).values() if tensor is not None]


def _whole(tensors: Iterable[torch.Tensor | None]) -> Iterator[torch.Tensor]:
    """The tensors that hold the data: local parts of sharded ones, what others wrap."""
    for tensor in tensors:
        if tensor is None or isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            continue
        if type(tensor) in PLAIN:
            yield tensor
        elif wraps_others(part := local(tensor)):
            yield from _whole(parts_of(part).values())
        else:
            yield part
