"""Operators that widely used libraries register. Each formula follows the definition in the library's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.registry import formula, per_mac

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call


@formula("transformers.grouped_mm_fallback")
def _grouped_mm(call: Call) -> int:
    """Count the FLOPs of the products of each row (k) of the input and one matrix (k, n) of the weight.

    Source: `transformers/integrations/moe.py`.
    """
    rows, weight = call.tensor("input"), call.tensor("weight")
    return per_mac(rows) * rows.numel() * weight.shape[-1]


@formula("transformers.grouped_mm_fallback_backward")
def _grouped_mm_backward(call: Call) -> int:
    """Count the FLOPs of the gradients of the rows and of the matrices. Each costs as much as the forward product."""
    return 2 * _grouped_mm(call)
