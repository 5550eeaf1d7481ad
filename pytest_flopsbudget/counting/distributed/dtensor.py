"""Measure DTensors, which are sharded over processes: only the part and the work of one rank count.

A DTensor runs an operator in two steps. First, it computes the sharding of the output: for this it runs the operator on
whole tensors without data. Second, it runs the operator on its local tensor, and collectives. The first step is not
work of the model, so it is hidden from the tracer.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed

from pytest_flopsbudget.counting.distributed.data_parallel import data_parallel
from pytest_flopsbudget.counting.distributed.world import is_fake_group, require_process_group
from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.torch_private import (
    ASYNC_COLLECTIVES,
    DTENSOR_PROPAGATION,
    disable_current_modes,
    dtensor_dispatcher,
    dtensor_spec,
    shard_dim_alltoall,
)
from pytest_flopsbudget.counting.torch_private import local_tensor as tensor_of_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_flopsbudget.counting.operators.counter import Counter


_TENSORS = "torch.distributed.tensor"


def is_sharded(value: Any) -> bool:
    """Return whether ``value`` is a DTensor. This function does not import PyTorch's module for DTensors."""
    module = sys.modules.get(_TENSORS)
    return module is not None and isinstance(value, module.DTensor)


def local_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return this rank's part of a DTensor, or ``tensor`` itself if it is no DTensor.

    Unlike `DTensor.to_local`, this function runs no operator.
    """
    if not is_sharded(tensor):
        return tensor
    part: torch.Tensor = tensor_of_rank(tensor)
    return part


def clone_dtensor(tensor: Any, clone: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return a DTensor over the clone of the local tensor, with the same mesh and placements.

    Raises:
        UsageError: no process group is initialized.
    """
    require_process_group("a DTensor")
    part = clone(tensor_of_rank(tensor)).detach()  # like the local tensor of a new DTensor, the clone gets no gradients
    whole: torch.Tensor = type(tensor)(part, dtensor_spec(tensor), requires_grad=False)
    return whole


def wait_for(tensors: Iterable[torch.Tensor]) -> None:
    """Wait for the results of asynchronous collectives. PyTorch warns if nothing waits for them."""
    module = sys.modules.get(ASYNC_COLLECTIVES)
    for tensor in tensors if module is not None else ():
        if type(tensor) is module.AsyncCollectiveTensor:  # type: ignore[union-attr]
            tensor.trigger_wait()  # type: ignore[attr-defined]


@contextmanager
def local_shards_only(clones: Sequence[torch.nn.Module], tracer: Counter, *, on_meta: bool) -> Iterator[None]:
    """Inside the ``with`` block, only this rank's work counts, and clones of data-parallel modules can run.

    Args:
        clones: the clones of all modules.
        tracer: the tracer that counts the work of the clones.
        on_meta: whether the clones' tensors are on the meta device. FSDP's check for such tensors is then off.
    """
    with ExitStack() as stack:
        stack.enter_context(data_parallel(clones, tracer, on_meta=on_meta))
        stack.enter_context(propagation_hidden())
        if _TENSORS in sys.modules and (on_meta or is_fake_group()):  # real CPU backends lack these collectives
            from torch.distributed.tensor import placement_types  # noqa: PLC0415

            stack.enter_context(patched((placement_types, name, rule) for name, rule in _PLACED.items()))
        yield


def _all_to_all(tensor: torch.Tensor, gather_dim: int, shard_dim: int, mesh: Any, mesh_dim: int) -> torch.Tensor:
    """Run PyTorch's operator for an all-to-all.

    This replaces a function of DTensor that runs other collectives on the CPU, because CPU backends lack an all-to-all.
    """
    group = mesh.get_group(mesh_dim).group_name
    output: torch.Tensor = shard_dim_alltoall()(tensor, gather_dim, shard_dim, group)
    return output


def _scatter(output: torch.Tensor, parts: list[torch.Tensor], mesh: Any, mesh_dim: int = 0, **of: Any) -> None:
    """Run the scatter collective. This replaces a function of DTensor that omits the collective on meta tensors."""
    group, root = mesh.get_group(mesh_dim), of.get("group_src", 0)
    torch.distributed.scatter(output, parts if group.rank() == root else None, group=group, group_src=root)


def _broadcast(tensor: torch.Tensor, mesh: Any, mesh_dim: int = 0, **of: Any) -> None:
    torch.distributed.broadcast(tensor, group=mesh.get_group(mesh_dim), group_src=of.get("group_src", 0))


#: Functions that distribute tensors, for which PyTorch's CPU and meta versions differ from the version on a cluster.
_PLACED = {"shard_dim_alltoall": _all_to_all, "mesh_scatter": _scatter, "mesh_broadcast": _broadcast}


@contextmanager
def propagation_hidden() -> Iterator[None]:
    """Inside the ``with`` block, hide the operators with which DTensors find the sharding of an output."""
    tensors = sys.modules.get(_TENSORS)
    if tensors is None:
        yield
        return
    with patched(_hide_propagation(dtensor_dispatcher(tensors.DTensor).sharding_propagator)):
        yield


def _hide_propagation(propagator: Any) -> list[tuple[Any, str, Any]]:
    def hidden(propagate: Callable[..., Any]) -> Callable[..., Any]:
        def propagate_hidden(*args: Any) -> Any:
            with disable_current_modes():
                return propagate(*args)

        return propagate_hidden

    names = [name for name in DTENSOR_PROPAGATION if hasattr(propagator, name)]
    return [(propagator, name, hidden(getattr(propagator, name))) for name in names]
