"""Elementwise operators cost the same in place, broadcast, on any dtype and quantized."""

from __future__ import annotations

import math

import pytest
import torch
from definitions import (
    Tally,
    maximum,
    minimum,
    numbers,
    round_,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its name everywhere
from zoo import BYTES, both, for_real

aten = torch.ops.aten

X, Y = numbers(2)


class TestForms:
    @given(data=st.data())
    def test_broadcasting(self, data):
        """One operation is counted for each element of the broadcast result."""
        shape = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
        thin = [data.draw(st.sampled_from([size, 1])) for size in shape]
        operator = data.draw(st.sampled_from([torch.add, torch.mul, torch.div, torch.maximum, torch.gt, torch.atan2]))
        count = math.prod(shape)
        assert both(operator, (torch.ones(shape), torch.ones(thin))).other_flops == count
        assert both(operator, (torch.ones(thin), torch.ones(shape))).other_flops == count

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_any_precision(self, dtype):
        assert both(torch.add, (torch.ones(3, dtype=dtype), torch.ones(3, dtype=dtype))).other_flops == 3

    @pytest.mark.parametrize(
        ("function", "each"),
        [
            (lambda x: x.clone().add_(x), 1),
            (lambda x: x.clone().add_(x, alpha=2), 2),
            (lambda x: x.clone().sigmoid_(), 4),
            (lambda x: x.clone().clamp_(0, 1), 2),
            (lambda x: x.clone().lerp_(x, 0.5), 3),
            (lambda x: x.clone().addcmul_(x, x, value=2), 3),
            (lambda x: x.clone().div_(2, rounding_mode="floor"), 2),
            (lambda x: F.elu(x.clone(), 2, inplace=True), 4),
            (lambda x: F.silu(x.clone(), inplace=True), 5),
            (lambda x: F.hardswish(x.clone(), inplace=True), 5),
            (lambda x: torch.add(x, x, alpha=2, out=torch.empty_like(x)), 2),
            (lambda x: torch.sigmoid(x, out=torch.empty_like(x)), 4),
            (lambda x: torch.exp(x, out=torch.empty_like(x)), 1),
        ],
    )
    def test_in_place_and_out(self, function, each):
        assert both(function, X).other_flops == each * 15

    @pytest.mark.parametrize(
        "function",
        [
            torch.add,
            torch.mul,
            torch.maximum,
            torch.eq,
            torch.bitwise_and,
            torch.gcd,
            lambda x, y: torch.div(x, y, rounding_mode="floor"),
            lambda x, y: x // y,
            lambda x, y: x << y,
            lambda x, y: (x > y) & (x < y) | ~(x == y),
            lambda x, y: x.clamp(0, 3) + y.abs(),
            lambda x, y: torch.where(x > y, x, y).masked_fill(x == 0, 3),
            torch.equal,
        ],
    )
    def test_integers_are_free(self, function):
        operands = (torch.arange(1, 7), torch.arange(2, 8))
        assert for_real(function, operands).other_flops == 0

    @pytest.mark.parametrize(
        "function",
        [
            torch.div,
            lambda x, y: x / 2,
            lambda x, y: x * 0.5,
            lambda x, y: x**0.5,
            lambda x, y: torch.sqrt(x),
            lambda x, y: x > y.double(),
            lambda x, y: x + y.double(),
        ],
    )
    def test_integers_that_become_floating_point_numbers(self, function):
        assert both(function, (torch.arange(1, 7), torch.arange(2, 8))).other_flops == 6

    def test_what_moves_casts_and_selects_is_free(self):
        def moves(x):
            y = x.clone().to(torch.float32).double().contiguous()
            y = torch.where(x == 0, x, y).masked_fill(torch.ones(3, 5, dtype=torch.bool), 1.0)
            return torch.cat([y, y.flip(0), y.mT.mT, torch.tril(y)]).roll(1, 0).copy_(torch.zeros(12, 5))

        assert both(moves, X).other_flops == 15, "only the comparison counts"

    @pytest.mark.parametrize(
        ("function", "each"),
        [
            # |a - b| ≤ atol + rtol · |b|: a difference, two absolute values, a product, a sum, a comparison.
            (torch.allclose, 6),
            (torch.equal, 1),
        ],
    )
    def test_comparisons_that_end_in_python(self, function, each):
        assert for_real(function, (X, Y)).other_flops == each * 15


class TestDropout:
    def test_training(self):
        """In training, dropout costs a scaling of its mask and a product of input and mask."""
        # 2 FLOPs for each element. The backward pass multiplies the gradient with the mask.
        inputs = X.clone().requires_grad_()
        assert both(nn.Dropout(0.3), inputs).other_flops == 2 * 15
        assert both(nn.Dropout(0.3), inputs, backward=True).other_flops == 3 * 15

    def test_one_operator(self):
        mask = torch.ones(3, 5, dtype=torch.bool)
        assert both(lambda x: aten.native_dropout(x, 0.3, True), X).other_flops == 2 * 15
        assert both(lambda g: aten.native_dropout_backward(g, mask, 1.5), X).other_flops == 15

    def test_inference(self):
        assert both(nn.Dropout(0.3).eval(), X).other_flops == 0
        assert both(lambda x: aten.native_dropout(x, 0.3, False), X, without=BYTES).other_flops == 0

    def test_rrelu_in_training(self):
        assert both(nn.RReLU(), X).other_flops == 2 * 15


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
class TestQuantization:
    # Quantizing: a quotient, a rounding, a sum and two bounds. Dequantizing: a difference and a product.

    def test_there_and_back(self):
        tally = Tally()
        whole = minimum(maximum(round_(tally.numbers(X) / 0.1) + 3, 0.0), 15.0)
        there = tally.count
        back = (whole - 3) * 0.1
        expected = torch.fake_quantize_per_tensor_affine(X, 0.1, 3, 0, 15)
        torch.testing.assert_close(expected, back.value, rtol=1e-7, atol=1e-7)
        quantized = torch.quantize_per_tensor(X.float(), 0.1, 3, torch.quint8)
        assert for_real(lambda x: torch.quantize_per_tensor(x, 0.1, 3, torch.quint8), X.float()).other_flops == there
        assert for_real(lambda q: q.dequantize(), quantized).other_flops == tally.count - there
        fake = for_real(lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 3, 0, 15), X)
        assert fake.other_flops == tally.count

    def test_by_channels(self):
        scales, zero_points = torch.full((3,), 0.1), torch.zeros(3, dtype=torch.int32)
        fake = for_real(lambda x: torch.fake_quantize_per_channel_affine(x, scales, zero_points, 0, 0, 15), X.float())
        assert fake.other_flops == 7 * 15
        real = for_real(lambda x: torch.quantize_per_channel(x, scales, zero_points, 0, torch.quint8), X.float())
        assert real.other_flops == 5 * 15
