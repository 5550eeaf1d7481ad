"""Count kernels written in Triton with a formula that a user registered. Any other kernel is an unknown operator.

In results, a kernel is named "triton.NAME", where NAME is the name of its function. `flops_formula` expects
"triton::NAME", and the formula reads the kernel's arguments by their names. If a formula was registered with PyTorch's
FlopCounterMode, it is called with the arguments that FlopCounterMode passes.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs import REGISTRY, Call, Cost
from pytest_flopsbudget.counting.costs.operands import bytes_touched
from pytest_flopsbudget.counting.operators.work import Work, bits_of_operand, dtype_of
from pytest_flopsbudget.counting.torch_private import python_body, triton_kernels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flopsbudget.counting.operators.counter import Counter
    from pytest_flopsbudget.counting.torch_private import HigherOrderOperator


def kernel(tracer: Counter, operator: HigherOrderOperator, **call: Any) -> Any:
    """Count a kernel, and launch it if the run has data.

    Args:
        tracer: the tracer that counts.
        operator: the wrapper operator, which writes to the kernel's arguments or to clones of them.
        call: the wrapper's arguments.
    """
    kernels = triton_kernels()
    launched = _without_tuning(kernels.get_kernel(call["kernel_idx"]))
    name = f"triton.{_name(launched)}"
    arguments = {**kernels.get_constant_args(call["constant_args_idx"]), **call["kwargs"]}
    cost = _cost(launched, name, arguments, call)
    if cost is None:
        tracer.note_unknown(name)
    else:
        tensors = [value for value in arguments.values() if isinstance(value, torch.Tensor)]
        bits = bits_of_operand(tensors, (), ())
        tracer.credit(
            Work(
                name,
                flops=cost.flops,
                other_flops=cost.other_flops,
                bit_operations=cost.flops * bits * bits // 2,
                memory_traffic=sum(map(bytes_touched, tensors)),
                launches=1,
                dtype=dtype_of(tensors, (), ()),
            )
        )
    if tracer.has_data:
        return (python_body(operator) or operator)(**call)
    return _untouched(arguments, call.get("tensors_to_clone"))


def _without_tuning(launched: Any) -> Any:
    """Return the kernel itself, without the autotuners that wrap it."""
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
    """Return name → uninitialized tensor for the arguments that the operator clones, or None if it clones none."""
    return None if cloned is None else {name: torch.empty_like(arguments[name]) for name in cloned}
