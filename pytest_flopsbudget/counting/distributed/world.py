"""Let one process act as one rank of many, without starting the other ranks."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed

from pytest_flopsbudget.counting.torch_private import clear_dtensor_caches, fake_store, finished_work, schema_of
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_flopsbudget.counting.torch_private import OpOverload


def has_process_group() -> bool:
    """Return whether a process group is initialized. A fake process group counts too."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def is_fake_group() -> bool:
    """Return whether the process group is fake: only this rank exists, and collectives transfer nothing."""
    return has_process_group() and torch.distributed.get_backend() == "fake"


def require_process_group(what: str) -> None:
    """Refuse to measure a distributed model without a process group, because the number of ranks is not known.

    Raises:
        UsageError: no process group is initialized.
    """
    if not has_process_group():
        raise UsageError(
            f"{what} is measured without a process group; measure it within the world that it was sharded in, "
            "as in `with flops_budget.world(size=8): ...`"
        )


@contextmanager
def world(size: int, rank: int = 0) -> Iterator[None]:
    """Let this process act as rank ``rank`` of ``size`` ranks, using PyTorch's fake process group.

    Inside the ``with`` block, device meshes, DTensors, FSDP and tensor parallelism can be set up on ``"cpu"``, in the
    same way as on a cluster. Collectives return at once and transfer nothing. So the outputs of a model have no
    meaning: use this function for measuring only.

    Args:
        size: the number of ranks.
        rank: the rank of this process, from 0.

    Raises:
        UsageError: there is no such rank, a process group is initialized already, or this PyTorch is built without
            torch.distributed.
    """
    _check(size, rank)
    store = fake_store()
    hook = sys.excepthook
    torch.distributed.init_process_group("fake", rank=rank, world_size=size, store=store())
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        sys.excepthook = hook  # PyTorch's hook prints the rank before tracebacks, and PyTorch never removes it
        _forget_ranks()


def _check(size: object, rank: object) -> None:
    if type(size) is not int or size < 1:
        raise UsageError(f"world(size={size!r}): the number of ranks is a whole number from 1 on")
    if type(rank) is not int or not 0 <= rank < size:
        raise UsageError(f"world(size={size}, rank={rank!r}): the ranks are 0 to {size - 1}")
    if not torch.distributed.is_available():
        raise UsageError("world(...): this PyTorch is built without torch.distributed; install one that has it")
    if torch.distributed.is_initialized():
        of = torch.distributed.get_world_size()
        raise UsageError(
            f"world(size={size}, rank={rank}): a process group of {of} ranks is initialized already; measure in it, "
            "or call torch.distributed.destroy_process_group() before"
        )


def _forget_ranks() -> None:
    """Clear the caches of DTensors, because their entries depend on the rank."""
    if "torch.distributed.tensor" in sys.modules:
        clear_dtensor_caches()


def is_in_place(name: str) -> bool:
    """Return whether the operator is an in-place collective, such as "c10d.allreduce_".

    PyTorch has no meta kernels for in-place collectives.
    """
    return name.startswith("c10d.") and name != "c10d.check_for_nan"


def answer_in_place(operator: OpOverload, args: Sequence[Any]) -> Any:
    """Return the output of an in-place collective: None, a finished handle, or the written tensors and a handle."""
    returns = len(schema_of(operator).returns)
    if not returns:
        return None
    work = finished_work()
    return work if returns == 1 else (args[0], work)
