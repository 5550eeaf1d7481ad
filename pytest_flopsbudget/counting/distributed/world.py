"""One process that stands for one rank of many, without the others."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def has_process_group() -> bool:
    """Whether this process is one of several, or stands for one."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def is_fake_group() -> bool:
    """Whether the others of the process group are not there, so that nothing is really passed."""
    return has_process_group() and torch.distributed.get_backend() == "fake"


def require_process_group(what: str) -> None:
    """Refuse to measure what is spread over ranks where nobody knows which there are.

    Raises:
        UsageError: no process group is up.
    """
    if not has_process_group():
        raise UsageError(
            f"{what} is measured where no process group is up; measure it within the world that it was sharded in, "
            "as in `with flops_budget.world(size=8): ...`"
        )


@contextmanager
def world(size: int, rank: int = 0) -> Iterator[None]:
    """Let this process stand for rank ``rank`` of ``size``, by PyTorch's fake process group.

    Within it, device meshes, DTensors, FSDP and tensor parallelism can be set up as on a cluster, on ``"cpu"``.
    Collectives return at once and pass nothing, so that what a model returns means nothing: it is for measuring.

    Args:
        size: how many ranks there are.
        rank: which one this is, from 0.

    Raises:
        UsageError: no such rank, a process group is up already, or this PyTorch is built without them.
    """
    _check(size, rank)
    from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: PLC0415 -- nobody else needs it

    hook = sys.excepthook
    torch.distributed.init_process_group("fake", rank=rank, world_size=size, store=FakeStore())
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        sys.excepthook = hook  # PyTorch puts the rank before tracebacks, once more each time, and for good
        _forget_ranks()


def _check(size: object, rank: object) -> None:
    if type(size) is not int or size < 1:
        raise UsageError(f"world(size={size!r}): how many ranks there are is a whole number from 1 on")
    if type(rank) is not int or not 0 <= rank < size:
        raise UsageError(f"world(size={size}, rank={rank!r}): the ranks are 0 to {size - 1}")
    if not torch.distributed.is_available():
        raise UsageError("world(...): this PyTorch is built without torch.distributed; install one that has it")
    if torch.distributed.is_initialized():
        of = torch.distributed.get_world_size()
        raise UsageError(
            f"world(size={size}, rank={rank}): a process group of {of} is up already; measure in it as it is, "
            "or call torch.distributed.destroy_process_group() before"
        )


def _forget_ranks() -> None:
    """What DTensors remember of operators holds for the rank that it was worked out on: another may come."""
    if "torch.distributed.tensor" not in sys.modules:
        return
    from torch.distributed.tensor import _redistribute, debug  # noqa: PLC0415

    clears = (
        getattr(debug, "_clear_sharding_prop_cache", None),
        getattr(_redistribute, "clear_redistribute_planner_cache", None),
        getattr(getattr(_redistribute, "_gen_transform_infos", None), "cache_clear", None),
    )
    for clear in clears:  # which of them there are hangs on PyTorch's version
        if clear is not None:
            clear()


def is_in_place(name: str) -> bool:
    """Whether an operator named like "c10d.allreduce_" is one of those, for which PyTorch has no meta kernels."""
    return name.startswith("c10d.") and name != "c10d.check_for_nan"


def answer_in_place(operator: torch._ops.OpOverload, args: Sequence[Any]) -> Any:
    """The tensors that it writes to, where it returns those, and work that is done already."""
    from torch._C._distributed_c10d import FakeWork  # noqa: PLC0415 -- not every PyTorch is built with it

    returns = len(operator._schema.returns)  # noqa: SLF001 -- torch names it so
    if not returns:
        return None
    work = FakeWork().boxed()
    return work if returns == 1 else (args[0], work)
