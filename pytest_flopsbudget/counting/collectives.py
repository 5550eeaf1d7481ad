"""Collective operators that write to their arguments, answered on shapes: nothing is sent, and nobody is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


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
