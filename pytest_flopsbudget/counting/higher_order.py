"""Operators on functions (a branch, a loop, flex attention): the plain PyTorch that each of them stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch._ops import HigherOrderOperator


def body_of(operator: HigherOrderOperator) -> Callable[..., Any]:
    """What the operator runs, to be called with its arguments; itself where that is not in Python."""
    own = _BODIES.get(operator.name())
    return own or operator.py_kernels.get(torch._C.DispatchKey.CompositeExplicitAutograd, operator)  # noqa: SLF001


def _cond(predicate: Any, if_true: Callable[..., Any], if_false: Callable[..., Any], operands: Sequence[Any]) -> Any:
    return (if_true if predicate else if_false)(*operands)


def _scan(combine: Callable[..., Any], init: Any, xs: Any, additional_inputs: Any) -> Any:
    from torch._higher_order_ops.scan import generic_scan  # noqa: PLC0415 -- loaded where one is met

    return generic_scan(combine, init, xs, additional_inputs=additional_inputs)


#: PyTorch's own kernels of these refuse to run while anybody looks on.
_BODIES: dict[str, Callable[..., Any]] = {"cond": _cond, "scan": _scan}
