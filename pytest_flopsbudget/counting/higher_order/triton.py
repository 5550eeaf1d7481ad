"""Kernels written in Triton: counted by a formula that somebody registered for the kernel, else named as unknown.

A kernel is named "triton.<its function>", and "triton::<its function>" to `flops_formula`, whose formula finds the
kernel's arguments by their names. What was registered with PyTorch's own counter is called as that calls it.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs import REGISTRY, Call, Cost
from pytest_flopsbudget.counting.costs.operands import bytes_touched
from pytest_flopsbudget.counting.operators.work import Work, dtype_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch._ops import HigherOrderOperator

    from pytest_flopsbudget.counting.operators.counter import Counter


def kernel(tracer: Counter, operator: HigherOrderOperator, **call: Any) -> Any:
    """Launch a kernel where there is data, and count it.

    Args:
        tracer: counts.
        operator: the wrapper, which writes to the kernel's arguments or to clones of them.
        call: the wrapper's arguments.
    """
    from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table  # noqa: PLC0415 -- loaded by now

    launched = _without_tuning(kernel_side_table.get_kernel(call["kernel_idx"]))
    name = f"triton.{_name(launched)}"
    arguments = {**kernel_side_table.get_constant_args(call["constant_args_idx"]), **call["kwargs"]}
    cost = _cost(launched, name, arguments, call)
    if cost is None:
        tracer.note_unknown(name)
    else:
        tensors = [value for value in arguments.values() if isinstance(value, torch.Tensor)]
        tracer.credit(
            Work(
                name,
                flops=cost.flops,
                other_flops=cost.other_flops,
                memory_traffic=sum(map(bytes_touched, tensors)),
                launches=1,
                dtype=dtype_of(tensors, (), ()),
            )
        )
    if tracer.has_data:
        return operator.py_kernels[torch._C.DispatchKey.CompositeExplicitAutograd](**call)  # noqa: SLF001
    return _untouched(arguments, call.get("tensors_to_clone"))


def _without_tuning(launched: Any) -> Any:
    """The kernel within what chooses its parameters."""
    while hasattr(launched, "fn") and not isinstance(launched.fn, types.FunctionType):
        launched = launched.fn
    return launched


def _name(launched: Any) -> str:
    return str(getattr(launched, "fn", launched).__name__)


def _cost(launched: Any, name: str, arguments: Mapping[str, Any], call: Mapping[str, Any]) -> Cost | None:
    ours = REGISTRY.user_formula(name)
    if ours is not None:
        return ours(Call.by_names(name, arguments))
    counter = sys.modules.get("torch.utils.flop_counter")
    theirs = None if counter is None else counter.flop_registry.get(launched)
    return None if theirs is None else Cost(int(theirs(**call, out_val=None)), 0)


def _untouched(arguments: Mapping[str, Any], cloned: Sequence[str] | None) -> Mapping[str, torch.Tensor] | None:
    """What the wrapper returns, without data to compute it from."""
    return None if cloned is None else {name: torch.empty_like(arguments[name]) for name in cloned}
