"""The costs of operators that PyTorch's compiler inserts in place of other operators.

Products cost what `products.py` defines; that file names the source of the definition. A sum of two tensors costs one
operation for each element.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.elementary import is_float
from pytest_flopsbudget.counting.costs.registry import operator, other_formula

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call


def _sum_of_products(call: Call) -> int:
    """Count the FLOPs of the two products in a · b + c · d. Each multiplies a matrix (m, k) by a matrix (k, n)."""
    columns = call.tensor("b").shape[-1]
    return 2 * columns * (call.tensor("a").numel() + call.tensor("c").numel())


def _sum(call: Call) -> int:
    return call.first_output.numel()


def _outputs_of_two(call: Call) -> int:
    return 2 * call.tensor("a").shape[0] * call.tensor("b").shape[-1]


operator("inductor._mm_plus_mm", flops=_sum_of_products, other=_sum, activations=_outputs_of_two)


def outputs_of_each(call: Call) -> int:
    """Count the output elements: m·n for each pair of matrices (m, k) and (k, n) in the two lists."""
    return sum(int(left.shape[0] * right.shape[-1]) for left, right in zip(call["self"], call["mat2"], strict=True))


@other_formula("inductor.accumulate_grad")
def _accumulated(call: Call) -> int:
    """Count the sums of the new and the present gradient. Return 0 if the call passes only one gradient."""
    # One overload has no argument for the present gradient. Its calls count as if there were one.
    present = "variable_grad" not in call.names or call["variable_grad"] is not None
    return call.tensor("new_grad").numel() if present and call["new_grad"] is not None else 0


@other_formula("flex_lib.zeros_and_scatter")
def _scattered(call: Call) -> int:
    """Count one sum for each scattered value, because each value is added to one element of the output."""
    values = call.tensor("vals")
    return values.numel() if is_float(values) else 0
