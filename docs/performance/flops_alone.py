"""Our count without the metrics beyond FLOPs: what they add is the difference."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from peers.case import Case

_COUNTING = "pytest_flopsbudget.counting"
#: What follows bytes, launches, activations and chains, and what each does instead: nothing.
_LEFT_OUT: dict[str, Callable[..., Any]] = {
    f"{_COUNTING}.memory.Memory.ran": lambda *_: None,
    f"{_COUNTING}.memory.Memory.holds": lambda *_: None,
    f"{_COUNTING}.operators.memory_traffic": lambda *_: 0,
    f"{_COUNTING}.operators.dtype_of": lambda *_: "",
    f"{_COUNTING}.operators.OperatorInfo.activations": lambda *_: 0,
}


def prepared(model: torch.nn.Module, args: tuple[torch.Tensor, ...], case: Case) -> Callable[[], float]:
    """What is timed. The process is left as it becomes here."""
    from pytest_flopsbudget.counting.measure import measure

    stack = ExitStack()
    for name, instead in _LEFT_OUT.items():
        stack.enter_context(patch(name, instead))
    return lambda: measure(model, args, backward=case.backward).flops
