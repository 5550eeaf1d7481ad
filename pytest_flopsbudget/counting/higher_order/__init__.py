"""Operators that take functions: control flow, flex attention, kernels in Triton."""
