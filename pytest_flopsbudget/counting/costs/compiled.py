"""Operators that PyTorch's compiler, or PyTorch in its name, puts in the place of others.

Source: as for products; a sum is one operation for each element.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.elementary import is_float
from pytest_flopsbudget.counting.costs.registry import formula, other_formula

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call


@formula("inductor._mm_plus_mm")
def _sum_of_products(call: Call) -> int:
    """Computes a · b + c · d, each (m, k) by (k, n)."""
    columns = call.tensor("b").shape[-1]
    return 2 * columns * (call.tensor("a").numel() + call.tensor("c").numel())


@other_formula("inductor._mm_plus_mm")
def _sum(call: Call) -> int:
    return call.first_output.numel()


@formula("_native._foreach_mm_native_0")
def _each_product(call: Call) -> int:
    """Each (m, k) by (k, n)."""
    return sum(2 * left.numel() * right.shape[-1] for left, right in zip(call["self"], call["mat2"], strict=True))


@other_formula("inductor.accumulate_grad")
def _accumulated(call: Call) -> int:
    """A gradient added to the one that is there. Where PyTorch does not say whether there is one, it counts."""
    present = "variable_grad" not in call.names or call["variable_grad"] is not None
    return call.tensor("new_grad").numel() if present and call["new_grad"] is not None else 0


@other_formula("flex_lib.zeros_and_scatter")
def _scattered(call: Call) -> int:
    """Every value is added to its place."""
    values = call.tensor("vals")
    return values.numel() if is_float(values) else 0
