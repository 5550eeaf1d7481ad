"""A pointwise operator that the package has no formula for costs one operation for each element."""

from __future__ import annotations

import pytest
import torch
from definitions import (
    numbers,
)
from zoo import both

from pytest_flopsbudget.counting.costs.registry import REGISTRY

aten = torch.ops.aten

UNIT = numbers(1, low=0.05, high=0.95)[0]

#: Pointwise operators that no table lists. We checked each of them: it is one elementary operation (like XLA's opcodes,
#: and the special functions of NumPy and SciPy), or it has no floating-point numbers.
ARITHMETIC = """
ceil clamp_max clamp_min floor fmax fmin fmod frexp maximum minimum neg nextafter relu remainder sign trunc
acos acosh asin asinh atan atan2 atanh cos cosh sin sinh tan tanh deg2rad rad2deg
erf erfc erfinv exp2 expm1 log1p rsqrt sqrt
isinf isnan isneginf isposinf signbit logical_and logical_not logical_or logical_xor
"""
SPECIAL_FUNCTIONS = """
digamma i0 igamma igammac lgamma polygamma special_airy_ai special_bessel_j0 special_bessel_j1 special_bessel_y0
special_bessel_y1 special_chebyshev_polynomial_t special_chebyshev_polynomial_u special_chebyshev_polynomial_v
special_chebyshev_polynomial_w special_erfcx special_hermite_polynomial_h special_hermite_polynomial_he special_i0e
special_i1 special_i1e special_laguerre_polynomial_l special_legendre_polynomial_p special_log_ndtr
special_modified_bessel_i0 special_modified_bessel_i1 special_modified_bessel_k0 special_modified_bessel_k1
special_ndtri special_scaled_modified_bessel_k0 special_scaled_modified_bessel_k1
special_shifted_chebyshev_polynomial_t special_shifted_chebyshev_polynomial_u special_shifted_chebyshev_polynomial_v
special_shifted_chebyshev_polynomial_w special_spherical_bessel_j0 special_zeta
"""
OF_INTEGERS = """
__lshift__ __rshift__ bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor
"""


def pointwise_operators():
    """Yield the names of the pointwise operators that PyTorch does not decompose."""
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, operator = name.partition("::")
        operator, _, overload = operator.partition(".")
        if namespace != "aten" or not hasattr(torch.ops.aten, operator):
            continue
        packet = getattr(torch.ops.aten, operator)
        if (overload or "default") not in packet.overloads():
            continue
        decomposes = torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd")
        if torch.Tag.pointwise in getattr(packet, overload or "default").tags and not decomposes:
            yield operator


class TestPointwiseOperators:
    def test_all_were_looked_at(self):
        # If this test fails, PyTorch has a new pointwise operator. Check that it is one operation, and add its name.
        by_default = {
            name.rstrip("_") if not name.startswith("__") else name
            for name in pointwise_operators()
            if not (REGISTRY.facets(f"aten.{name}").other or REGISTRY.facets(f"aten.{name}").free)
        }
        assert by_default - set((ARITHMETIC + SPECIAL_FUNCTIONS + OF_INTEGERS).split()) == set()

    @pytest.mark.parametrize(
        "name", [name for name in (ARITHMETIC + SPECIAL_FUNCTIONS).split() if hasattr(torch.ops.aten, name)]
    )
    def test_one_operation(self, name):
        if name == "polygamma":
            assert both(lambda x: aten.polygamma(2, x), UNIT).other_flops == 15
            return
        packet = getattr(aten, name)
        schema = getattr(packet, packet.overloads()[0])._schema
        tensors = [argument for argument in schema.arguments if "Tensor" in str(argument.type) and not argument.is_out]
        operands = 2 if name.startswith("clamp") else len(tensors)
        assert both(packet, (UNIT,) * operands).other_flops == 15
