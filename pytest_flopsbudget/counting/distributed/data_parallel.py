"""Modules that run on many processes at once, each on its own batch: FSDP2 and DDP.

Both keep state beside the model. Their doubles get their own, so that the model's learns of no run.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.nn.parallel import DistributedDataParallel

from pytest_flopsbudget.counting.distributed.world import need_process_group
from pytest_flopsbudget.counting.isolation.patching import replaced
from pytest_flopsbudget.counting.tensors.metadata import PLAIN
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import torch

    from pytest_flopsbudget.counting.operators.counter import Counter


_FSDP = "torch.distributed.fsdp"


@contextmanager
def data_parallel(doubles: Sequence[torch.nn.Module], tracer: Counter, *, on_meta: bool) -> Iterator[None]:
    """Let such modules among the doubles find their way.

    Args:
        doubles: of all modules.
        tracer: counts them.
        on_meta: whether their tensors are without data, which FSDP refuses.

    Raises:
        UsageError: one of them is of a kind that cannot be doubled, or no process group is up.
    """
    for module in doubles:
        if isinstance(module, DistributedDataParallel):
            need_process_group("DistributedDataParallel")
            _reduce_by_hooks(module, tracer)
    fsdp = sys.modules.get(_FSDP)
    if fsdp is not None and any(isinstance(module, fsdp.FullyShardedDataParallel) for module in doubles):
        raise UsageError(
            "FullyShardedDataParallel cannot be measured: its state is tied to the model, and running it would "
            "change that; shard the model with torch.distributed.fsdp.fully_shard, which takes its place"
        )
    sharded = _of_fsdp(doubles)
    with ExitStack() as stack:
        if sharded:
            need_process_group("a model sharded by FSDP")
            _know_states(sharded)
            if on_meta:
                _share_memory(sharded)
            stack.enter_context(_fsdp_followed(tracer, on_meta=on_meta))
        yield


def reshard(doubles: Iterable[torch.nn.Module]) -> None:
    """Free what FSDP gathered, so that modules hold this rank's parameters again."""
    for module in _of_fsdp(doubles):
        module.reshard()


def _of_fsdp(doubles: Iterable[torch.nn.Module]) -> list[Any]:
    """Those that ``fully_shard`` was called on; there is none before its module is loaded."""
    fsdp = sys.modules.get(_FSDP)
    return [] if fsdp is None else [module for module in doubles if isinstance(module, fsdp.FSDPModule)]


#: What FSDP does for a group of parameters, whenever that is.
_COMMUNICATES = ("unshard", "wait_for_unshard", "post_backward")


def _credited_to_its_module(method: Callable[..., Any], tracer: Counter) -> Callable[..., Any]:
    """FSDP gathers ahead, while another module is running, and scatters what is left when autograd is done."""

    def within(group: Any, *args: Any, **kwargs: Any) -> Any:
        before = tracer.phase
        if method.__name__ == "post_backward":
            tracer.phase = "backward"
        try:
            with tracer.tracker.credited(group.modules[0]):
                return method(group, *args, **kwargs)
        finally:
            tracer.phase = before

    return within


@contextmanager
def _fsdp_followed(tracer: Counter, *, on_meta: bool) -> Iterator[None]:
    from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup as Group  # noqa: PLC0415

    methods = [(Group, name, _credited_to_its_module(getattr(Group, name), tracer)) for name in _COMMUNICATES]
    if on_meta:
        methods.append((Group, "_validate_no_meta_params", lambda _group: None))
    with replaced(methods):
        yield


def _reduce_by_hooks(double: Any, tracer: Counter) -> None:
    """Let gradients be summed by hooks of the double's own: the reducer in C++ is the model's, and would learn of it.

    PyTorch does so itself under its compiler. There is a call a parameter, and not one a bucket of them; the bytes are
    the same.
    """
    if double._comm_hooks:  # noqa: SLF001
        tracer.notes.add("communication hooks of DistributedDataParallel are not called: gradients count as they are")
    double.__dict__.update(
        _comm_hooks=[],
        _use_python_reducer=True,
        _accum_grad_hooks=[],
        _pre_forward=partial(_buffers_synchronized, double),
    )
    double._register_accum_grad_hook()  # noqa: SLF001


def _buffers_synchronized(double: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    if double._check_sync_bufs_pre_fwd():  # noqa: SLF001
        double._sync_buffers()  # noqa: SLF001
    return args, kwargs


def _know_states(sharded: Iterable[Any]) -> None:
    """FSDP finds a module's state by the module, weakly, so that this ends with the doubles."""
    from torch.distributed._composable_state import _insert_module_state, _module_state_mapping  # noqa: PLC0415

    for module in sharded:
        if module not in _module_state_mapping:
            state = _state_of(module)
            for part in state._modules:  # noqa: SLF001
                if part not in _module_state_mapping:
                    _insert_module_state(part, state)


def _share_memory(sharded: Iterable[Any]) -> None:
    """FSDP sends a rank's part from a flat view of the parameter's memory, so that the doubles' is one memory too."""
    for module in sharded:
        state = _state_of(module)
        groups = getattr(state, "_fsdp_param_groups", None) or [state._fsdp_param_group]  # noqa: SLF001
        for parameter in (parameter for group in groups if group is not None for parameter in group.fsdp_params):
            part, flat = parameter.sharded_param.to_local(), parameter._sharded_param_data  # noqa: SLF001
            if type(flat) in PLAIN and part.is_contiguous() and part.numel() == flat.numel():
                flat.set_(part.detach().view(-1))


def _state_of(module: Any) -> Any:
    from torch.distributed.fsdp._fully_shard._fsdp_state import FSDPState  # noqa: PLC0415

    for holder in vars(module).values():
        if isinstance(holder, dict):
            for state in holder.values():
                if isinstance(state, FSDPState):
                    return state
    raise RuntimeError(f"no FSDP state in {type(module).__name__}")
