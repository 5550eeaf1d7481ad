"""Tensors that are sharded over processes: what one rank holds and runs.

A DTensor takes an operator apart into one on its local part, and collectives. Before, it asks what the operator would
give on the whole tensors; that is no work of the model's, and must not be seen.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from torch.utils._python_dispatch import _disable_current_modes

from pytest_flopsbudget.counting.distributed.data_parallel import data_parallel
from pytest_flopsbudget.counting.distributed.world import is_alone, need_process_group
from pytest_flopsbudget.counting.isolation.patching import replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_flopsbudget.counting.operators.counter import Counter


_TENSORS = "torch.distributed.tensor"
_ASYNC = "torch.distributed._functional_collectives"


def is_sharded(value: Any) -> bool:
    """Whether it is a DTensor; there is none before its module is loaded."""
    module = sys.modules.get(_TENSORS)
    return module is not None and isinstance(value, module.DTensor)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this rank holds: all of it, unless it is sharded."""
    return tensor._local_tensor if is_sharded(tensor) else tensor  # type: ignore[attr-defined] # noqa: SLF001 -- `to_local` is an operation


def double_of(tensor: Any, double: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """A DTensor with the same mesh and placements over the double of its local part.

    Raises:
        UsageError: no process group is up, so nobody knows which ranks there are.
    """
    need_process_group("a DTensor")
    part = double(tensor._local_tensor).detach()  # noqa: SLF001 -- that of a whole one is without gradients too
    whole: torch.Tensor = type(tensor)(part, tensor._spec, requires_grad=False)  # noqa: SLF001
    return whole


def wait_for(tensors: Iterable[torch.Tensor]) -> None:
    """Wait for what collectives returned: PyTorch warns of results that nobody waits for."""
    module = sys.modules.get(_ASYNC)
    for tensor in tensors if module is not None else ():
        if type(tensor) is module.AsyncCollectiveTensor:  # type: ignore[union-attr]
            tensor.trigger_wait()  # type: ignore[attr-defined]


@contextmanager
def local_work_only(doubles: Sequence[torch.nn.Module], tracer: Counter, *, on_meta: bool) -> Iterator[None]:
    """Let only the work of this rank be seen, and parallel modules among the doubles find their way.

    Args:
        doubles: of all modules.
        tracer: counts them.
        on_meta: whether their tensors are without data, which FSDP refuses.
    """
    with ExitStack() as stack:
        stack.enter_context(data_parallel(doubles, tracer, on_meta=on_meta))
        stack.enter_context(propagation_unseen())
        if _TENSORS in sys.modules and (on_meta or is_alone()):  # real CPUs could not do as other devices
            from torch.distributed.tensor import placement_types  # noqa: PLC0415

            stack.enter_context(replaced((placement_types, name, rule) for name, rule in _PLACED.items()))
        yield


def _all_to_all(tensor: torch.Tensor, gather_dim: int, shard_dim: int, mesh: Any, mesh_dim: int) -> torch.Tensor:
    """What it is on all devices but the CPU, whose backends have none."""
    group = mesh.get_group(mesh_dim).group_name
    output: torch.Tensor = torch.ops._dtensor.shard_dim_alltoall(tensor, gather_dim, shard_dim, group)  # noqa: SLF001
    return output


def _scatter(output: torch.Tensor, parts: list[torch.Tensor], mesh: Any, mesh_dim: int = 0, **of: Any) -> None:
    """What it is with data: PyTorch leaves it out on meta, as it does with a broadcast."""
    group, root = mesh.get_group(mesh_dim), of.get("group_src", 0)
    torch.distributed.scatter(output, parts if group.rank() == root else None, group=group, group_src=root)


def _broadcast(tensor: torch.Tensor, mesh: Any, mesh_dim: int = 0, **of: Any) -> None:
    torch.distributed.broadcast(tensor, group=mesh.get_group(mesh_dim), group_src=of.get("group_src", 0))


#: How tensors are spread out, where PyTorch takes another way on the CPU or on meta than on the devices of a cluster.
_PLACED = {"shard_dim_alltoall": _all_to_all, "mesh_scatter": _scatter, "mesh_broadcast": _broadcast}


@contextmanager
def propagation_unseen() -> Iterator[None]:
    """Hide what DTensors ask about whole tensors, and nothing else."""
    tensors = sys.modules.get(_TENSORS)
    if tensors is None:
        yield
        return
    with replaced(_unseen_propagation(tensors.DTensor._op_dispatcher.sharding_propagator)):  # noqa: SLF001
        yield


def _unseen_propagation(propagator: Any) -> list[tuple[Any, str, Any]]:
    def unseen(propagate: Callable[..., Any]) -> Callable[..., Any]:
        def propagated(*args: Any) -> Any:
            with _disable_current_modes():
                return propagate(*args)

        return propagated

    names = ("propagate_op_sharding", "propagate_op_sharding_non_cached", "_propagate_tensor_meta")
    return [(propagator, name, unseen(getattr(propagator, name))) for name in names if hasattr(propagator, name)]
