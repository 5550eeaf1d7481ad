"""Operators over lists of tensors, which optimizers run: what the operator costs on each tensor of the list.

Sources: the operators without "_foreach_"; of the fused optimizers, the updates as PyTorch's documentation of
`torch.optim` writes them: Kingma and Ba, "Adam", 2015; Loshchilov and Hutter, "Decoupled Weight Decay Regularization",
2019; Duchi et al., "Adaptive Subgradient Methods", 2011. Their corrections are numbers, one a tensor, and not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.costs.elementary import elements, is_float
from pytest_flopsbudget.counting.costs.elementwise import operations
from pytest_flopsbudget.counting.costs.registry import other_formula

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call

_ELEMENTWISE = """
abs acos add addcdiv addcmul asin atan ceil clamp_max clamp_min cos cosh div erf erfc exp expm1 floor frac lerp lgamma
log log10 log1p log2 maximum minimum mul neg pow reciprocal round rsqrt sigmoid sign sin sinh sqrt sub tan tanh trunc
"""


def _factor(factor: Any) -> int:
    """Whether scaling by ``factor`` is work; of a list of factors, whether any is not 1."""
    factors = factor if isinstance(factor, (list, tuple)) else [factor]
    return int(any(not isinstance(item, (int, float)) or item != 1 for item in factors))


@other_formula(*(f"aten._foreach_{name}" for name in _ELEMENTWISE.split()))
def _each(call: Call) -> int:
    name = call.name.rstrip("_").removeprefix("aten._foreach_")
    if name in ("addcmul", "addcdiv"):
        factors = call["value"] if "value" in call.names else call["scalars"]
        return sum(
            (
                operations("mul" if name == "addcmul" else "div", complex_numbers=tensor.is_complex())
                + 1
                + _factor(factors)
            )
            * tensor.numel()
            for tensor in call["self"]
            if is_float(tensor)
        )
    scaled = _factor(call["alpha"]) if "alpha" in call.names else 0
    return sum(
        (operations(name, complex_numbers=tensor.is_complex()) + scaled) * tensor.numel()
        for tensor in call["self"]
        if is_float(tensor)
    )


@other_formula("aten._foreach_norm", "aten._foreach_powsum", "aten._foreach_max")
def _each_reduced(call: Call) -> int:
    """As the norms of `reductions`, over all of a tensor; the maximum takes n - 1 comparisons."""
    tensors = [tensor for tensor in call["self"] if is_float(tensor)]
    if call.name == "aten._foreach_max":
        return sum(max(tensor.numel() - 1, 0) for tensor in tensors)
    order = call["ord"]
    root = call.name == "aten._foreach_norm" and order not in (1, float("inf"))
    passes = 2 if order in (1, 2, float("inf")) else 3
    return sum(passes * tensor.numel() - 1 + root for tensor in tensors if tensor.numel())


@other_formula("aten._fused_adam", "aten._fused_adamw")
def _adam(call: Call) -> int:
    """Moments: m + (g - m)(1 - β1) is 3, β2·v + (1 - β2)·g·g is 4. Step: √v/c + ε is 3, p - η·m / that 3.

    Decay adds 2 (AdamW's 1), AMSGrad's maximum 1, the sign of a maximized loss 1.
    """
    decay = (1 if call.name.rstrip("_") == "aten._fused_adamw" else 2) if call["weight_decay"] else 0
    return (13 + decay + bool(call["amsgrad"]) + bool(call["maximize"])) * elements(call["self"])


@other_formula("aten._fused_sgd")
def _sgd(call: Call) -> int:
    """Step: p - η·g is 2. Decay adds 2, the sign of a maximized loss 1.

    Momentum μ·b + (1 - d)·g adds 2, and 1 for a dampening d, from the second step on; Nesterov's adds 2.
    """
    momentum = call["momentum"] and not call["is_first_step"]
    work = 2 + 2 * bool(call["weight_decay"]) + bool(call["maximize"])
    work += (2 + bool(call["dampening"])) * bool(momentum) + 2 * bool(call["nesterov"])
    return work * elements(call["self"])


@other_formula("aten._fused_adagrad")
def _adagrad(call: Call) -> int:
    """Step: s + g·g is 2, √s + ε is 2, p - η·g / that 3. Decay adds 2, the sign of a maximized loss 1."""
    return (7 + 2 * bool(call["weight_decay"]) + bool(call["maximize"])) * elements(call["self"])
