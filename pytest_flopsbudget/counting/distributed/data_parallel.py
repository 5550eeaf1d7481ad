"""Data-parallel modules (FSDP2 and DDP), which run on many processes, each with a different batch.

Both FSDP2 and DDP keep state outside of the model. A measurement runs clones of the user's modules. The clones get new
state, so that the state of the user's model does not change.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parallel import DistributedDataParallel

from pytest_flopsbudget.counting.distributed.world import require_process_group
from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES
from pytest_flopsbudget.counting.torch_private import (
    FSDP_META_CHECK,
    communication_hooks,
    fsdp_flat_data,
    fsdp_group_class,
    fsdp_groups,
    fsdp_modules,
    fsdp_state_class,
    module_states,
    reduce_in_python,
    register_gradient_hooks,
    set_module_state,
    synchronize_buffers,
    synchronizes_buffers,
)
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_flopsbudget.counting.operators.counter import Counter


_FSDP = "torch.distributed.fsdp"


@contextmanager
def data_parallel(clones: Sequence[torch.nn.Module], tracer: Counter, *, on_meta: bool) -> Iterator[None]:
    """Prepare the clones of data-parallel modules, and credit the communication of FSDP to the modules that need it.

    Args:
        clones: the clones of all modules.
        tracer: the tracer that counts the work of the clones.
        on_meta: whether the clones' tensors are on the meta device. FSDP's check for such tensors is then off.

    Raises:
        UsageError: a module is of a class that cannot be cloned, no process group is initialized, or this PyTorch
            cannot run FSDP2 on the CPU.
    """
    for module in clones:
        if isinstance(module, DistributedDataParallel):
            require_process_group("DistributedDataParallel")
            _reduce_by_hooks(module, tracer)
    fsdp = sys.modules.get(_FSDP)
    if fsdp is not None and any(isinstance(module, fsdp.FullyShardedDataParallel) for module in clones):
        raise UsageError(
            "FullyShardedDataParallel cannot be measured: its state is tied to the model, and running it would "
            "change that; shard the model with torch.distributed.fsdp.fully_shard, which takes its place"
        )
    sharded = _find_fsdp_modules(clones)
    with ExitStack() as stack:
        if sharded:
            require_process_group("a model sharded by FSDP")
            _require_streams(sharded)
            _register_fsdp_states(sharded)
            if on_meta:
                _share_memory(sharded)
            stack.enter_context(_fsdp_credited(tracer, on_meta=on_meta))
        yield


def reshard(clones: Iterable[torch.nn.Module]) -> None:
    """Free the parameters that FSDP gathered, so that the modules hold only this rank's shards again."""
    for module in _find_fsdp_modules(clones):
        module.reshard()


def _find_fsdp_modules(clones: Iterable[torch.nn.Module]) -> list[Any]:
    """Return the modules that ``fully_shard`` was called on."""
    fsdp = sys.modules.get(_FSDP)
    return [] if fsdp is None else [module for module in clones if isinstance(module, fsdp.FSDPModule)]


def _require_streams(sharded: Iterable[Any]) -> None:
    """Refuse FSDP2 on the CPU if this PyTorch cannot run it there, which is so in PyTorch 2.6."""
    if hasattr(torch.cpu.Stream, "record_event"):
        return
    groups = (group for module in sharded for group in fsdp_groups(_state_of(module)))
    if any(group.device.type == "cpu" for group in groups):
        raise UsageError(
            f"PyTorch {torch.__version__} cannot run a model sharded by fully_shard on the CPU, because its "
            "torch.cpu.Stream lacks record_event; install PyTorch 2.7 or newer"
        )


#: Names of the methods with which FSDP communicates for a group of parameters.
_COMMUNICATES = ("unshard", "wait_for_unshard", "post_backward")


def _credited_to_its_module(method: Callable[..., Any], tracer: Counter) -> Callable[..., Any]:
    """Wrap a method of FSDP's group of parameters, so that the group's module gets the credit for the method's work.

    FSDP may run the method while another module runs.
    """

    def credited(group: Any, *args: Any, **kwargs: Any) -> Any:
        before = tracer.phase
        if method.__name__ == "post_backward":
            tracer.phase = "backward"
        try:
            with tracer.tracker.credited_to(group.modules[0]):
                return method(group, *args, **kwargs)
        finally:
            tracer.phase = before

    return credited


@contextmanager
def _fsdp_credited(tracer: Counter, *, on_meta: bool) -> Iterator[None]:
    group = fsdp_group_class()
    methods = [(group, name, _credited_to_its_module(getattr(group, name), tracer)) for name in _COMMUNICATES]
    if on_meta:
        methods.append((group, FSDP_META_CHECK, lambda _group: None))
    with patched(methods):
        yield


def _reduce_by_hooks(clone: Any, tracer: Counter) -> None:
    """Let the clone reduce its gradients with hooks in Python, because the reducer in C++ belongs to the user's model.

    The hooks run one collective per parameter. The reducer would run one collective per bucket of parameters. The total
    number of bytes is the same.
    """
    if communication_hooks(clone):
        tracer.notes.add(
            "communication hooks of DistributedDataParallel are not called: gradients count without compression"
        )
    reduce_in_python(clone, partial(_synchronize_buffers, clone))
    register_gradient_hooks(clone)()


def _synchronize_buffers(clone: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    if synchronizes_buffers(clone)():
        synchronize_buffers(clone)()
    return args, kwargs


def _register_fsdp_states(sharded: Iterable[Any]) -> None:
    """Register the state of each clone with FSDP, so that FSDP finds it."""
    states, insert = module_states(), set_module_state()
    for module in sharded:
        if module not in states:
            state = _state_of(module)
            for part in fsdp_modules(state):
                if part not in states:
                    insert(part, state)


def _share_memory(sharded: Iterable[Any]) -> None:
    """Make FSDP's flat tensor of each parameter share memory with the parameter's shard, as in the user's model."""
    for module in sharded:
        for parameter in (parameter for group in fsdp_groups(_state_of(module)) for parameter in group.fsdp_params):
            part, flat = parameter.sharded_param.to_local(), fsdp_flat_data(parameter)
            if type(flat) in PLAIN_TYPES and part.is_contiguous() and part.numel() == flat.numel():
                flat.set_(part.detach().view(-1))


def _state_of(module: Any) -> Any:
    state_class = fsdp_state_class()
    for holder in vars(module).values():
        if isinstance(holder, dict):
            for state in holder.values():
                if isinstance(state, state_class):
                    return state
    raise RuntimeError(f"no FSDP state in {type(module).__name__}")
