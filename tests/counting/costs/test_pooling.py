"""Pooling costs as much as loops over windows."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from counted import Arithmetic, cost_of, gradient_flops, greatest, plain_sum, random
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional
from zoo import both


@st.composite
def pools(draw, *, dilated):
    """Draw the number of dimensions, the sizes of an input, and the arguments of a pool."""
    dimensions = draw(st.integers(1, 3))
    several = st.lists(st.integers(1, 3), min_size=dimensions, max_size=dimensions)
    kernel = draw(several)
    dilation = draw(several) if dilated else [1] * dimensions
    padding = [draw(st.integers(0, size // 2)) for size in kernel]
    extents = [step * (size - 1) + 1 for size, step in zip(kernel, dilation, strict=True)]
    sizes = [extent + draw(st.integers(0, 3)) for extent in extents]
    arguments = {"kernel_size": kernel, "stride": draw(several), "padding": padding, "ceil_mode": draw(st.booleans())}
    return dimensions, sizes, arguments | ({"dilation": dilation} if dilated else {})


def places(shape):
    return itertools.product(*map(range, shape))


@settings(max_examples=30)
@given(pool=pools(dilated=True))
def test_max_pool(pool):
    """A max pool costs k - 1 comparisons for each window of k values, including the padding."""
    dimensions, sizes, arguments = pool
    inputs = random(1, 2, *sizes)
    max_pool = getattr(functional, f"max_pool{dimensions}d")
    output = max_pool(inputs, **arguments)
    arithmetic = Arithmetic()
    for channel in range(2):
        for place in places(output.shape[2:]):
            window = [
                arithmetic.numbers(_at(inputs[0, channel], place, offset, arguments))
                for offset in places(arguments["kernel_size"])
            ]
            assert greatest(window).value == output[(0, channel, *place)].item()
    assert both(lambda x: max_pool(x, **arguments), inputs).other_flops == arithmetic.count


def _at(image, place, offset, arguments, outside=-math.inf):
    """Return the value at one offset in a window, or ``outside`` if the offset is in the padding."""
    dilation = arguments.get("dilation", [1] * image.ndim)
    where = [
        p * stride + o * step - pad
        for p, o, stride, step, pad in zip(
            place, offset, arguments["stride"], dilation, arguments["padding"], strict=True
        )
    ]
    if all(0 <= at < size for at, size in zip(where, image.shape, strict=True)):
        return image[tuple(where)]
    return torch.tensor(outside, dtype=image.dtype)


@settings(max_examples=30)
@given(pool=pools(dilated=False))
def test_average_pool(pool):
    """An average pool costs k - 1 additions and a division for each window of k values."""
    dimensions, sizes, arguments = pool
    assume(not arguments["ceil_mode"])  # a window that reaches beyond the padding has another divisor
    inputs = random(1, 2, *sizes)
    average_pool = getattr(functional, f"avg_pool{dimensions}d")
    output = average_pool(inputs, **arguments)
    arithmetic = Arithmetic()
    for channel in range(2):
        for place in places(output.shape[2:]):
            window = [
                arithmetic.numbers(_at(inputs[0, channel], place, offset, arguments, 0.0))
                for offset in places(arguments["kernel_size"])
            ]
            average = plain_sum(window) / len(window)
            assert average.value == pytest.approx(output[(0, channel, *place)].item())
    assert both(lambda x: average_pool(x, **arguments), inputs).other_flops == arithmetic.count


@settings(max_examples=20)
@given(pool=pools(dilated=False))
def test_gradients(pool):
    """The backward pass of an average pool costs one FLOP for each value of each window."""
    # The backward pass of a max pool costs one addition for each output gradient.
    dimensions, sizes, arguments = pool
    inputs = random(1, 2, *sizes, grad=True)
    average_pool, max_pool = (getattr(functional, f"{kind}_pool{dimensions}d") for kind in ("avg", "max"))
    output = average_pool(inputs, **arguments)
    grad = torch.ones_like(output)
    window = math.prod(arguments["kernel_size"])
    assert gradient_flops(lambda x: average_pool(x, **arguments), [inputs], grad) == window * output.numel()
    assert gradient_flops(lambda x: max_pool(x, **arguments), [inputs], grad) == output.numel()


@settings(max_examples=30)
@given(sizes=st.lists(st.tuples(st.integers(1, 7), st.integers(2, 7)), min_size=1, max_size=3))
def test_adaptive_pool(sizes):
    shape, target = [n for n, _ in sizes], [m for _, m in sizes]
    dimensions = len(sizes)
    inputs = random(1, 2, *shape)
    average_pool, max_pool = (getattr(functional, f"adaptive_{kind}_pool{dimensions}d") for kind in ("avg", "max"))
    averages, maxima = average_pool(inputs, target), max_pool(inputs, target)
    of_average, of_maximum = Arithmetic(), Arithmetic()
    for channel in range(2):
        for place in places(target):
            window = tuple(slice(i * n // m, -((-(i + 1) * n) // m)) for i, (n, m) in zip(place, sizes, strict=True))
            values = inputs[0, channel][window].flatten()
            average = plain_sum(of_average.numbers(values)) / values.numel()
            assert average.value == pytest.approx(averages[(0, channel, *place)].item())
            assert greatest(of_maximum.numbers(values)).value == maxima[(0, channel, *place)].item()
    assert both(lambda x: average_pool(x, target), inputs).other_flops == of_average.count
    assert both(lambda x: max_pool(x, target), inputs).other_flops == of_maximum.count
    inputs.requires_grad_()
    assert gradient_flops(lambda x: average_pool(x, target), [inputs], averages) == of_average.count
    assert gradient_flops(lambda x: max_pool(x, target), [inputs], maxima) == 2 * math.prod(target)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_fractional_max_pool(dimensions):
    # The backward pass costs one sum for each output.
    pool = getattr(functional, f"fractional_max_pool{dimensions}d")
    inputs = random(1, 2, *[7] * dimensions)
    outputs = 2 * 3**dimensions

    def forward(x):
        return pool(x, 2, 3)

    assert both(forward, inputs).other_flops == outputs * (2**dimensions - 1)
    grad = torch.ones(1, 2, *[3] * dimensions, dtype=torch.float64)
    assert gradient_flops(forward, [inputs.requires_grad_()], grad) == outputs


def test_max_unpool():
    # 3 comparisons for each of 2 · 4 pooled outputs

    def model(x):
        pooled, indices = functional.max_pool2d(x, 2, return_indices=True)
        return functional.max_unpool2d(pooled, indices, 2)

    assert both(model, random(1, 2, 4, 4)).other_flops == 24


def test_one_number_for_all_dimensions():
    # 4 windows of 3 · 3 values
    assert both(lambda x: functional.max_pool2d(x, [3]), random(1, 1, 6, 6)).other_flops == 4 * 8


@pytest.mark.parametrize("pool", [functional.max_pool2d, functional.avg_pool2d])
def test_integers_are_free(pool):
    assert both(lambda x: pool(x, 2), torch.ones(1, 4, 4, dtype=torch.int64)).other_flops == 0


@pytest.mark.parametrize("dimensions", [2, 3])
def test_kernels_of_other_devices(dimensions):
    # 2^d - 1 comparisons for each of 2 outputs. The backward pass costs one sum for each output.
    image, pooled = random(1, 2, *[3] * dimensions), random(1, 2, *[1] * dimensions)
    forward, backward = (getattr(torch.ops.aten, f"mkldnn_max_pool{dimensions}d{way}") for way in ("", "_backward"))
    kernel = [2] * dimensions
    assert cost_of(forward, (image, kernel), pooled) == 2 * (2**dimensions - 1)
    assert cost_of(backward, (pooled, pooled, image, kernel), image) == 2
