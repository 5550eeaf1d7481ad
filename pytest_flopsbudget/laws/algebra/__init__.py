"""Exact mathematics of growth laws: terms, domains, piecewise laws, formulas. Needs no PyTorch and no measurement."""
