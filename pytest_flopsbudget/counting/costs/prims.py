"""PyTorch's primitives ("prims"), into which it decomposes operators for derivatives and for Inductor.

A primitive costs as much as ATen's operator with the same definition. PyTorch tags only few primitives as pointwise, so
this file lists the pointwise ones. `fourier.py`, `factorization.py`, `pooling.py` and `accumulation.py` count further
primitives. Views are recognized by their schemas.
"""

from __future__ import annotations

from pytest_flopsbudget.counting.costs.elementary import computes_on_floats, is_complex, is_float, reduction
from pytest_flopsbudget.counting.costs.elementwise import operations, power, product_or_quotient
from pytest_flopsbudget.counting.costs.registry import Call, operator, other_formula
from pytest_flopsbudget.counting.tensors.metadata import tensors_in

_POINTWISE = """
abs acos acosh add asin asinh atan atan2 atanh bessel_i0 bessel_i0e bessel_i1 bessel_i1e bessel_j0 bessel_j1 bitwise_and
bitwise_not bitwise_or bitwise_xor cbrt ceil conj_physical cos cosh digamma eq erf erf_inv erfc erfcx exp exp2 expm1
floor fmax fmin fmod frexp gcd ge gt hypot igamma igammac isfinite le lgamma log log10 log1p log2 lt maximum minimum
ndtri ne neg nextafter reciprocal remainder round rsqrt shift_left shift_right_arithmetic sign signbit sin sinh
spherical_bessel_j0 sqrt sub tan tanh trunc zeta
"""

_FREE = """
_low_memory_max_pool2d_offsets_to_indices _low_memory_max_pool_offsets_to_indices _make_token _sink_tokens as_strided
as_strided_scatter cat clone collapse convert_element_type copy_strided copy_to device_put empty empty_permuted
empty_strided fill full full_like inductor_cvt_e8m0_rceil inductor_force_stride_order inductor_lookup_seed
inductor_rand_eager_offset inductor_rand_eager_offsets inductor_randint inductor_random inductor_seed inductor_seeds
iota maximum_value minimum_value normal reshape resize rev scalar_tensor uniform where
"""


@other_formula(*(f"prims.{name}" for name in _POINTWISE.split()))
def _pointwise(call: Call) -> int:
    if not computes_on_floats(call):
        return 0
    name = call.name.removeprefix("prims.")
    return operations(name, complex_numbers=is_complex(call)) * call.first_output.numel()


@other_formula("prims.mul", "prims.div")
def _product_or_quotient(call: Call) -> int:
    if not computes_on_floats(call):
        return 0
    name = call.name.removeprefix("prims.")
    return product_or_quotient(name, call["self"], call["other"]) * call.first_output.numel()


@other_formula("prims.pow")
def _power(call: Call) -> int:
    return power(call["self"], call["other"]) * call.first_output.numel() if computes_on_floats(call) else 0


@other_formula("prims.fma")
def _fused_product_and_sum(call: Call) -> int:
    """Count the operations in a · b + c."""
    if not computes_on_floats(call):
        return 0
    complex_numbers = is_complex(call)
    each = operations("mul", complex_numbers=complex_numbers) + operations("add", complex_numbers=complex_numbers)
    return each * call.first_output.numel()


@other_formula("prims.prepare_softmax_online")
def _maximum_and_sum(call: Call) -> int:
    """Count 4 operations per element of a softmax without its quotient: maximum, difference, exponential, sum."""
    return 4 * call.tensor("a").numel()


operator("prims.sum", "prims.amax", "prims.amin", "prims.xor_sum", other=reduction)


@other_formula("prims.prod")
def _product(call: Call) -> int:
    """Count n - 1 products for each output element that is reduced from n values."""
    inputs, output = next(tensors_in(call.args)), call.first_output
    products = max(inputs.numel() - output.numel(), 0)
    return is_float(inputs) * operations("mul", complex_numbers=inputs.is_complex()) * products


@other_formula("prims.var")
def _variance(call: Call) -> int:
    """Count 4 operations per real value: for the mean, the difference, its square, and the mean of the squares."""
    inputs = next(tensors_in(call.args))
    # complex: the mean 2, the differences 2, a square 3 (2 products, 1 sum), the mean of real squares 1
    return (2 + 2 + 3 + 1 if inputs.is_complex() else 4) * inputs.numel() * is_float(inputs)


operator(*(f"prims.{name}" for name in _FREE.split()), free=True)
operator("prims.item", free=True, needs_data=True)
