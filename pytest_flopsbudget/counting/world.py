"""One process that stands for one rank of many, without the others."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch.distributed

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


def has_process_group() -> bool:
    """Whether this process is one of several, or stands for one."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


@contextmanager
def world(size: int, rank: int = 0) -> Iterator[None]:
    """Let this process stand for rank ``rank`` of ``size``, by PyTorch's fake process group.

    Within it, device meshes, DTensors, FSDP and tensor parallelism can be set up as on a cluster, on ``"cpu"``. Collectives
    return at once and pass nothing, so that numbers are not to be looked at: it is for measuring.

    Args:
        size: how many ranks there are.
        rank: which one this is, from 0.

    Raises:
        UsageError: no such rank, a process group is up already, or this PyTorch is built without them.
    """
    _check(size, rank)
    from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: PLC0415 -- nobody else needs it

    torch.distributed.init_process_group("fake", rank=rank, world_size=size, store=FakeStore())
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
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
    tensors = sys.modules.get("torch.distributed.tensor")
    if tensors is None:
        return
    from torch.distributed.tensor.debug import _clear_sharding_prop_cache  # noqa: PLC0415

    _clear_sharding_prop_cache()  # type: ignore[no-untyped-call]
