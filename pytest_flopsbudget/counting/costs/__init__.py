"""Operator → cost: one file per family, each formula with its source."""

from pytest_flopsbudget.counting.costs import (
    accumulation,
    attention,
    convolution,
    elementwise,
    lists,
    products,
    quantized,
    recurrent,
    reductions,
)
from pytest_flopsbudget.counting.costs.elementary import elementary, reduction
from pytest_flopsbudget.counting.costs.free import is_free
from pytest_flopsbudget.counting.costs.registry import (
    FREE,
    Call,
    Cost,
    flops_formula,
    formula_of,
    other_formula_of,
    registered_formula,
)

__all__ = [
    "FREE",
    "Call",
    "Cost",
    "accumulation",
    "attention",
    "convolution",
    "elementary",
    "elementwise",
    "flops_formula",
    "formula_of",
    "is_free",
    "lists",
    "other_formula_of",
    "products",
    "quantized",
    "recurrent",
    "reduction",
    "reductions",
    "registered_formula",
]
