"""Tensors and modules that are sharded over processes: what one rank holds and runs.

A DTensor takes an operator apart into one on its local part, and collectives. Before, it asks what the operator would
give on the whole tensors; that is no work of the model's, and must not be seen.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import _disable_current_modes

from pytest_flopsbudget.counting.replaced import replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

_TENSORS = "torch.distributed.tensor"
_FSDP = "torch.distributed.fsdp"
_ASYNC = "torch.distributed._functional_collectives"


def is_sharded(value: Any) -> bool:
    """Whether it is a DTensor; there is none before its module is loaded."""
    module = sys.modules.get(_TENSORS)
    return module is not None and isinstance(value, module.DTensor)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this rank holds: all of it, unless it is sharded."""
    return tensor._local_tensor if is_sharded(tensor) else tensor  # type: ignore[attr-defined, no-any-return] # noqa: SLF001 -- `to_local` is an operation


def double_of(tensor: Any, double: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """A DTensor with the same mesh and placements over the double of its local part."""
    part: torch.Tensor = type(tensor)(double(tensor._local_tensor), tensor._spec, requires_grad=False)  # noqa: SLF001
    return part


def waited_for(tensor: torch.Tensor) -> torch.Tensor:
    """What a collective returns is a promise, which somebody has to call in: PyTorch warns of those that nobody does."""
    module = sys.modules.get(_ASYNC)
    if module is not None and type(tensor) is module.AsyncCollectiveTensor:
        value: torch.Tensor = tensor.trigger_wait()  # type: ignore[attr-defined]
        return value
    return tensor


@contextmanager
def local_work_only(
    doubles: Sequence[torch.nn.Module], credited: Callable[[Any], AbstractContextManager[None]], *, on_meta: bool
) -> Iterator[None]:
    """Let only the work of this rank be seen, and parallel modules among the doubles find their way.

    Args:
        doubles: of all modules.
        credited: gives a context within which all work is that of a module.
        on_meta: whether their tensors are without data, which FSDP refuses.
    """
    with ExitStack() as stack:
        for module in doubles if torch.distributed.is_available() else ():
            if isinstance(module, DistributedDataParallel):
                _reduce_by_hooks(module)
        tensors = sys.modules.get(_TENSORS)
        if tensors is not None:
            stack.enter_context(replaced(_unseen_propagation(tensors.DTensor._op_dispatcher.sharding_propagator)))  # noqa: SLF001
            if on_meta:
                from torch.distributed.tensor import placement_types  # noqa: PLC0415

                stack.enter_context(replaced([(placement_types, "shard_dim_alltoall", _all_to_all)]))
        fsdp = sys.modules.get(_FSDP)
        sharded = [] if fsdp is None else [module for module in doubles if isinstance(module, fsdp.FSDPModule)]
        if sharded:
            _know_states(sharded)
            from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup as Group  # noqa: PLC0415

            stack.enter_context(
                replaced(
                    (Group, name, _credited_to_its_module(getattr(Group, name), credited)) for name in _COMMUNICATES
                )
            )
            if on_meta:
                stack.enter_context(replaced([(Group, "_validate_no_meta_params", lambda _group: None)]))
        yield


#: What FSDP does for a group of parameters, whenever that is.
_COMMUNICATES = ("unshard", "wait_for_unshard", "post_backward")


def _credited_to_its_module(
    method: Callable[..., Any], credited: Callable[[Any], AbstractContextManager[None]]
) -> Callable[..., Any]:
    """FSDP gathers ahead, while another module is running, and scatters what is left at the very end."""

    def within(group: Any, *args: Any, **kwargs: Any) -> Any:
        with credited(group.modules[0]):
            return method(group, *args, **kwargs)

    return within


def _all_to_all(tensor: torch.Tensor, gather_dim: int, shard_dim: int, mesh: Any, mesh_dim: int) -> torch.Tensor:
    """What it is on all devices but the CPU, whose backends have none."""
    group = mesh.get_group(mesh_dim).group_name
    output: torch.Tensor = torch.ops._dtensor.shard_dim_alltoall(tensor, gather_dim, shard_dim, group)  # noqa: SLF001
    return output


def _reduce_by_hooks(double: Any) -> None:
    """Let gradients be summed by hooks of the double's own: the reducer in C++ is the model's, and would learn of it.

    PyTorch does so itself under its compiler. There is a call a parameter, and not one a bucket of them; the bytes are
    the same.
    """
    double.__dict__.update(
        _use_python_reducer=True, _accum_grad_hooks=[], _pre_forward=partial(_buffers_synchronized, double)
    )
    double._register_accum_grad_hook()  # noqa: SLF001


def _buffers_synchronized(double: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    if double._check_sync_bufs_pre_fwd():  # noqa: SLF001
        double._sync_buffers()  # noqa: SLF001
    return args, kwargs


def _unseen_propagation(propagator: Any) -> list[tuple[Any, str, Any]]:
    def unseen(propagate: Callable[..., Any]) -> Callable[..., Any]:
        def propagated(*args: Any) -> Any:
            with _disable_current_modes():
                return propagate(*args)

        return propagated

    names = ("propagate_op_sharding", "propagate_op_sharding_non_cached")
    return [(propagator, name, unseen(getattr(propagator, name))) for name in names]


def _know_states(sharded: Iterable[Any]) -> None:
    """FSDP finds a module's state by the module, weakly, so that this ends with the doubles."""
    from torch.distributed._composable_state import _insert_module_state, _module_state_mapping  # noqa: PLC0415

    for module in sharded:
        if module not in _module_state_mapping:
            state = _state_of(module)
            for part in state._modules:  # noqa: SLF001
                if part not in _module_state_mapping:
                    _insert_module_state(part, state)


def _state_of(module: Any) -> Any:
    from torch.distributed.fsdp._fully_shard._fsdp_state import FSDPState  # noqa: PLC0415

    for holder in vars(module).values():
        if isinstance(holder, dict):
            for state in holder.values():
                if isinstance(state, FSDPState):
                    return state
    raise RuntimeError(f"no FSDP state in {type(module).__name__}")


def reshard(doubles: Iterable[torch.nn.Module]) -> None:
    """Free what FSDP gathered, so that modules hold this rank's parameters again."""
    fsdp = sys.modules.get(_FSDP)
    for module in doubles if fsdp is not None else ():
        if isinstance(module, fsdp.FSDPModule):  # type: ignore[union-attr]
            module.reshard()
