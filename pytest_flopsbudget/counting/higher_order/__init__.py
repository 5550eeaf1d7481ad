"""Operators that call functions: control flow, flex attention, and kernels in Triton."""
