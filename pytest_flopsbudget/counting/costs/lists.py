"""Operators over lists of tensors, which optimizers run.

Their cost is the sum of the costs for each tensor in the list.

A "_foreach_" operator costs for each tensor as much as the operator with this name without "_foreach_". A fused
optimizer costs as much as the update in PyTorch's documentation of `torch.optim`. Bias corrections and learning rate
decay are one number for each tensor and are not counted.

Sources of the updates: Kingma and Ba, "Adam", 2015; Loshchilov and Hutter, "Decoupled Weight Decay Regularization",
2019; Duchi et al., "Adaptive Subgradient Methods", 2011.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs.elementary import elements, is_float
from pytest_flopsbudget.counting.costs.elementwise import operations, power, product_or_quotient, scaling
from pytest_flopsbudget.counting.costs.reductions import norm_operations
from pytest_flopsbudget.counting.costs.registry import other_formula

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call

_ELEMENTWISE = """
abs acos add addcdiv addcmul asin atan ceil clamp_max clamp_min cos cosh div erf erfc exp expm1 floor frac lerp lgamma
log log10 log1p log2 maximum minimum mul neg pow reciprocal round rsqrt sigmoid sign sin sinh sqrt sub tan tanh trunc
"""


def _one_each(operand: Any, count: int) -> list[Any]:
    """Return a list of ``count`` operands. An operand that is not a list is repeated."""
    return list(operand) if isinstance(operand, (list, tuple)) else [operand] * count


def _first(call: Call, *names: str) -> Any:
    """Return the first of the named arguments that the operator has, or 1 if the operator has none of them."""
    return next((call[name] for name in names if name in call.names), 1)


@other_formula(*(f"aten._foreach_{name}" for name in _ELEMENTWISE.split()))
def _each(call: Call) -> int:
    """Count the operations that the operator without "_foreach_" would do, for each tensor in the list."""
    name = call.name.rstrip("_").removeprefix("aten._foreach_")
    tensors = call.output or call["self"]
    bases = _one_each(call["self"], len(tensors))
    others = _one_each(
        _first(call, "other", "tensor2", "weight", "weights", "exponent", "scalar", "scalars"), len(tensors)
    )
    factors = _one_each(
        _first(call, "alpha", "value", *(("scalars",) if name.startswith("addc") else ())), len(tensors)
    )
    return sum(
        _of_each(name, tensor, base, other, factor) * tensor.numel()
        for tensor, base, other, factor in zip(tensors, bases, others, factors, strict=True)
        if is_float(tensor)
    )


def _of_each(name: str, result: torch.Tensor, base: Any, other: Any, factor: Any) -> int:
    """Return the operations per element of ``name``, an operator without "_foreach_", for one tensor of the list."""
    complex_numbers = result.is_complex() or (isinstance(base, torch.Tensor) and base.is_complex())
    if name == "pow":
        return power(base, other)
    if name in ("mul", "div"):
        return product_or_quotient(name, base, other)
    if name in ("addcmul", "addcdiv"):
        work = product_or_quotient(name.removeprefix("addc"), base, other) + operations(
            "add", complex_numbers=complex_numbers
        )
        return work + scaling(factor, complex_numbers=complex_numbers)
    if name == "lerp":
        return 2 * operations("add", complex_numbers=complex_numbers) + product_or_quotient("mul", base, other)
    return operations(name, complex_numbers=complex_numbers) + scaling(factor, complex_numbers=complex_numbers)


@other_formula("aten._foreach_norm", "aten._foreach_powsum", "aten._foreach_max")
def _each_reduced(call: Call) -> int:
    """Count the operations of a norm of each tensor in the list.

    `_foreach_max` costs n - 1 comparisons for a tensor of n elements.
    """
    tensors = [tensor for tensor in call["self"] if is_float(tensor)]
    if call.name == "aten._foreach_max":
        return sum(max(tensor.numel() - 1, 0) for tensor in tensors)
    root = call.name == "aten._foreach_norm"
    return sum(
        norm_operations(tensor.numel(), 1, call["ord"], complex_numbers=tensor.is_complex(), root=root)
        for tensor in tensors
        if tensor.numel()
    )


@other_formula("aten._fused_adam", "aten._fused_adamw")
def _adam(call: Call) -> int:
    """Count the operations of one update by Adam or AdamW, for all elements."""
    decay = (1 if call.name.rstrip("_") == "aten._fused_adamw" else 2) if call["weight_decay"] else 0
    # m + (g - m)(1 - β1): 3; β2·v + (1 - β2)·g·g: 4; p - η·m/(√v/c + ε): 6; AMSGrad takes a maximum: 1; ``maximize``
    # changes a sign: 1
    return (13 + decay + bool(call["amsgrad"]) + bool(call["maximize"])) * elements(call["self"])


@other_formula("aten._fused_sgd")
def _sgd(call: Call) -> int:
    """Count the operations of one update by stochastic gradient descent, for all elements."""
    momentum = call["momentum"] and not call["is_first_step"]
    # p - η·g: 2; weight decay: 2; ``maximize`` changes a sign: 1
    work = 2 + 2 * bool(call["weight_decay"]) + bool(call["maximize"])
    # μ·b + (1 - d)·g: 2, and 1 for the factor 1 - d; Nesterov: 2
    work += (2 + bool(call["dampening"])) * bool(momentum) + 2 * bool(call["nesterov"])
    return work * elements(call["self"])


@other_formula("aten._fused_adagrad")
def _adagrad(call: Call) -> int:
    """Count the operations of one update by Adagrad, for all elements."""
    # s + g·g: 2; p - η·g/(√s + ε): 5; weight decay: 2; ``maximize`` changes a sign: 1
    return (7 + 2 * bool(call["weight_decay"]) + bool(call["maximize"])) * elements(call["self"])
