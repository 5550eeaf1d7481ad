"""An operator of `torch.ops.prims` costs as much as the ATen operator with the same definition."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch.autograd import forward_ad
from zoo import both

from pytest_flopsbudget.counting.operators.accounting import cost_of
from pytest_flopsbudget.counting.operators.info import operator_info

prims = torch.ops.prims

REAL, COMPLEX, WHOLE = torch.ones(4, 5), torch.ones(4, 5, dtype=torch.complex64), torch.ones(4, 5, dtype=torch.int64)


def other_flops(function, *args):
    return both(function, args).other_flops


class TestOperators:
    @pytest.mark.parametrize("operator", [prims.add, prims.sub, prims.mul, prims.div, prims.maximum, prims.atan2])
    def test_two_tensors(self, operator):
        assert other_flops(operator, REAL, REAL) == 20

    @pytest.mark.parametrize("operator", [prims.exp, prims.tanh, prims.erf, prims.neg, prims.sqrt, prims.lgamma])
    def test_one_tensor(self, operator):
        assert other_flops(operator, REAL) == 20

    @pytest.mark.parametrize(
        ("operator", "each"), [(prims.add, 2), (prims.sub, 2), (prims.mul, 6), (prims.div, 11), (prims.pow, 6 + 6 + 5)]
    )
    def test_complex_numbers(self, operator, each):
        # A complex product is 4 real products and 2 sums. A complex power is exp(b · log a).
        assert other_flops(operator, COMPLEX, COMPLEX) == each * 20

    @pytest.mark.parametrize("operator", [prims.add, prims.mul, prims.gcd, prims.bitwise_and, prims.eq])
    def test_whole_numbers(self, operator):
        assert other_flops(operator, WHOLE, WHOLE) == 0

    @pytest.mark.parametrize(("operator", "count"), [(prims.sum, 16), (prims.amax, 16), (prims.prod, 16)])
    def test_reductions(self, operator, count):
        assert other_flops(lambda x: operator(x, [1]), REAL) == count

    def test_variance(self):
        # the mean, the differences, their squares, and the mean of the squares
        assert other_flops(lambda x: prims.var(x, [1], 1), REAL) == 4 * 20

    def test_fourier_transform(self):
        assert other_flops(lambda x: prims.fft_c2c(x, dim=[1], forward=True), COMPLEX[:, :4]) == 4 * 5 * 4 * 2

    def test_singular_values(self):
        """`prims.svd` costs as much as ATen's `_linalg_svd`."""
        parts, wide = tuple(torch.ones(s) for s in ((4, 4), (4,), (4, 5))), {"full_matrices": False}
        found = cost_of(operator_info(prims.svd.default), (REAL,), wide, parts)
        assert found == cost_of(operator_info(torch.ops.aten._linalg_svd.default), (REAL, False, True), {}, parts)
        assert found.other_flops > 0

    def test_free(self):
        condition = REAL > 0
        assert other_flops(prims.where, condition, REAL, REAL) == 0
        assert other_flops(lambda x: prims.convert_element_type(x, torch.float64), REAL) == 0
        assert other_flops(lambda x: prims.cat([x, x], 0), REAL) == 0


def primitive(name):
    """Return the operator ``name`` of PyTorch's compiler. If the operator does not exist, skip the test."""
    importlib.import_module("torch._inductor.inductor_prims")
    if not hasattr(prims, name):
        pytest.skip(f"this version of PyTorch has no prims.{name}")
    return getattr(prims, name)


def maximum_pool(dimensions):
    """Return the operator that pools with offsets. PyTorch 2.6 has one for two dimensions only."""
    importlib.import_module("torch._inductor.inductor_prims")
    older = dimensions == 2 and hasattr(prims, "_low_memory_max_pool2d_with_offsets")
    return primitive("_low_memory_max_pool2d_with_offsets" if older else "_low_memory_max_pool_with_offsets")


class TestOfInductor:
    @pytest.mark.parametrize(
        ("tensor", "each"),
        [(REAL, 1 + 1), (REAL.half(), 1 + 1), (COMPLEX, 6 + 2), (WHOLE, 0)],  # a product and a sum
    )
    def test_product_and_sum(self, tensor, each):
        assert other_flops(primitive("fma"), tensor, tensor, tensor) == each * 20

    @pytest.mark.parametrize("dim", [0, 1])
    def test_softmax(self, dim):
        # the maximum, the differences, the exponentials, and their sum
        assert other_flops(lambda x: primitive("prepare_softmax_online")(x, dim), REAL) == 4 * 20

    @pytest.mark.parametrize(
        ("image", "kernel", "outputs"),
        [((2, 3, 8, 8), (2, 2), 2 * 3 * 4 * 4), ((1, 2, 9, 8), (3, 2), 2 * 3 * 4), ((1, 1, 4, 4, 4), (2, 2, 2), 8)],
    )
    def test_maximum_of_a_window(self, image, kernel, outputs):
        """Max pooling costs k - 1 comparisons for each window of k values."""
        pool, zeros, ones = maximum_pool(len(kernel)), [0] * len(kernel), [1] * len(kernel)

        def windows(x):
            return pool(x, kernel, kernel, zeros, ones, False)

        assert other_flops(windows, torch.ones(image)) == outputs * (math.prod(kernel) - 1)

    @pytest.mark.parametrize(("accumulate", "count"), [(False, 0), (True, 2 * 5)])
    def test_write_at_indices(self, accumulate, count):
        put, rows = primitive("_unsafe_index_put_"), torch.tensor([0, 2])
        info = operator_info(put.default)
        assert cost_of(info, (REAL, [rows], torch.ones(2, 5), accumulate), {}, REAL).other_flops == count

    def test_free(self):
        order = primitive("inductor_force_stride_order")
        assert other_flops(lambda x: order(x, [1, 4]), REAL) == 0


#: Metrics that differ between shapes and data here. The derivative of a number is a tensor of zeros without memory.
#: PyTorch computes the shape of its product on the meta device, and moves tensors there if they are on another device.
#: So other operators run.
OF_OPERATORS = ("memory_traffic", "launches", "peak_memory", "depth", "arithmetic_intensity", "average_parallelism")


class TestForwardMode:
    """In forward mode, a derivative costs the operations of the product rule and the chain rule."""

    # For example, the derivative of a product has two products and one sum.

    @pytest.mark.parametrize(
        ("function", "each"),
        [
            (lambda x: x * x, 1 + 3),
            (lambda x: 2 * x, 1 + 3),
            (lambda x: x * x + 2 * x, 4 + 4 + 2),
            (lambda x: torch.exp(3 * x), 1 + 3 + 2),  # e^y, and its product with the derivative
        ],
    )
    def test_transform(self, function, each):
        def derivative(x):
            return torch.func.jvp(function, (x,), (torch.ones_like(x),))

        result = both(derivative, (REAL,), without=OF_OPERATORS)
        assert result.other_flops == each * REAL.numel()

    def test_dual_tensors(self):
        def derivative(x):
            with forward_ad.dual_level():
                return forward_ad.unpack_dual(3 * forward_ad.make_dual(x, torch.ones_like(x))).tangent

        assert both(derivative, (REAL,), without=OF_OPERATORS).other_flops == (1 + 3) * REAL.numel()

    def test_products(self):
        """In forward mode, the derivative of a product costs two products, even if the weight is constant."""
        # dx · W and x · dW
        weight = torch.ones(5, 3)

        def derivative(x):
            return torch.func.jvp(lambda y: 2 * (y @ weight), (x,), (torch.ones_like(x),))

        assert both(derivative, (REAL,), without=OF_OPERATORS).flops == 3 * 2 * math.prod((4, 5, 3))
