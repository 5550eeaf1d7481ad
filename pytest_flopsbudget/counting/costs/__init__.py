"""Operator → FLOPs: one file per family, each formula with its source."""

from pytest_flopsbudget.counting.costs import attention, convolution, products, quantized, recurrent
from pytest_flopsbudget.counting.costs.registry import Call, flops_formula, formula_of, registered_formula
from pytest_flopsbudget.counting.costs.without_products import WITHOUT_PRODUCTS

__all__ = [
    "WITHOUT_PRODUCTS",
    "Call",
    "attention",
    "convolution",
    "flops_formula",
    "formula_of",
    "products",
    "quantized",
    "recurrent",
    "registered_formula",
]
