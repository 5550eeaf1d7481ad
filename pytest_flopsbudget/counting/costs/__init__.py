"""Operator → cost: one file per family, each formula with its source."""

from pytest_flopsbudget.counting.costs import (
    attention,
    convolution,
    distances,
    factorization,
    fourier,
    interpolation,
    losses,
    normalization,
    pooling,
    products,
    quantized,
    recurrent,
    softmax,
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
    "attention",
    "convolution",
    "distances",
    "elementary",
    "factorization",
    "flops_formula",
    "formula_of",
    "fourier",
    "interpolation",
    "is_free",
    "losses",
    "normalization",
    "other_formula_of",
    "pooling",
    "products",
    "quantized",
    "recurrent",
    "reduction",
    "registered_formula",
    "softmax",
]
