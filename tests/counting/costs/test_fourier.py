"""Fourier transforms of n points cost 5·n·log2 n FLOPs, like the radix-2 algorithm."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from counted import gradient_flops, random
from features import need
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import both


def radix_2(points):
    """Return the Fourier transform of ``points`` and the number of operations on real numbers."""
    # A butterfly consists of a complex product (6), a sum (2) and a difference (2).
    if len(points) == 1:
        return points, 0
    half = len(points) // 2
    (even, of_even), (odd, of_odd) = radix_2(points[::2]), radix_2(points[1::2])
    turned = [cmath.exp(-2j * math.pi * k / len(points)) * value for k, value in enumerate(odd)]
    sums = [a + b for a, b in zip(even, turned, strict=True)]
    differences = [a - b for a, b in zip(even, turned, strict=True)]
    return sums + differences, of_even + of_odd + 10 * half


@settings(max_examples=12)
@given(power=st.integers(0, 6), batch=st.integers(1, 3))
def test_powers_of_two(power, batch):
    """If the number of points is a power of two, a transform costs exactly the operations of the radix-2 algorithm."""
    signal = torch.complex(random(batch, 2**power), random(batch, 2**power, seed=1))
    operations = 0
    for row in signal:
        transform, of_row = radix_2(row.tolist())
        torch.testing.assert_close(torch.tensor(transform, dtype=signal.dtype), torch.fft.fft(row))
        operations += of_row
    assert both(torch.fft.fft, signal).other_flops == operations


@settings(max_examples=20)
@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    data=st.data(),
    norm=st.sampled_from(["forward", "ortho"]),
)
def test_any_size(shape, data, norm):
    """A complex transform of n points costs 5·n·log2 n FLOPs, and a real transform costs half as many."""
    dims = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    if dims != sorted(dims):
        need("shapes of transforms over dimensions in any order")
    points = math.prod(shape[dim] for dim in dims)
    transforms = math.prod(shape) // points
    full = transforms * round(5 * points * math.log2(points))
    half = transforms * round(2.5 * points * math.log2(points))
    real = random(*shape)
    signal = torch.complex(real, real)
    assert both(lambda x: torch.fft.fftn(x, dim=dims, norm=norm), signal).other_flops == full
    assert both(lambda x: torch.fft.ifftn(x, dim=dims, norm=norm), signal).other_flops == full
    assert both(lambda x: torch.fft.rfftn(x, dim=dims, norm=norm), real).other_flops == half
    sizes = [shape[dim] for dim in dims]
    spectrum = torch.fft.rfftn(real, dim=dims)
    assert both(lambda x: torch.fft.irfftn(x, s=sizes, dim=dims, norm=norm), spectrum).other_flops == half


@pytest.mark.parametrize("size", [8, 16])
def test_backward(size):
    signal = torch.complex(random(2, size), random(2, size)).requires_grad_()
    grad, transform = torch.fft.fft(signal.detach()), 5 * size * int(math.log2(size))
    assert gradient_flops(torch.fft.fft, [signal], grad) == 2 * transform
