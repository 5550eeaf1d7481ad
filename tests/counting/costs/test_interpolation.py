"""Interpolation of images costs as much as loops over pixels."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from counted import Arithmetic, cost_of, gradient_flops, plain_sum, random, tensor_of
from features import requires
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from zoo import both

from pytest_flopsbudget.counting.operators import accounting
from pytest_flopsbudget.counting.operators.info import operator_info

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def position(index, size, new_size, *, align_corners):
    """Return the position in the input that corresponds to the output pixel ``index``."""
    if align_corners:
        return index * (size - 1) / (new_size - 1) if new_size > 1 else 0.0
    return max((index + 0.5) * size / new_size - 0.5, 0.0)


def interpolated(image, where):
    if not where:
        return image
    at, *rest = where
    low = min(math.floor(at), len(image) - 1)
    high = min(low + 1, len(image) - 1)
    weight = at - low
    return interpolated(image[low], rest) * (1 - weight) + interpolated(image[high], rest) * weight


SIZES = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=3)


@settings(max_examples=25)
@given(sizes=SIZES, align_corners=st.booleans())
def test_linear(sizes, align_corners):
    before, after = [n for n, _ in sizes], [m for _, m in sizes]
    mode = LINEAR[len(sizes)]
    inputs = random(1, 2, *before, grad=True)

    def forward(x):
        return functional.interpolate(x, after, mode=mode, align_corners=align_corners)

    output = forward(inputs)
    arithmetic = Arithmetic()
    for channel in range(2):
        image = arithmetic.numbers(inputs.detach()[0, channel])
        for place in torch.cartesian_prod(*map(torch.arange, after)).view(-1, len(after)).tolist():
            where = [
                position(index, n, m, align_corners=align_corners) for index, (n, m) in zip(place, sizes, strict=True)
            ]
            assert interpolated(image, where).value == pytest.approx(output[(0, channel, *place)].item())
    assert both(forward, inputs.detach()).other_flops == arithmetic.count
    # The gradient is the transposed map, which has the same products and sums.
    assert gradient_flops(forward, [inputs], output.detach()) == arithmetic.count


def cubic_weights(t, a=-0.75):
    """Return the weights (Keys, 1981) of pixels at the distances 1 + t, t, 1 - t and 2 - t."""
    near = [(a + 2) * d**3 - (a + 3) * d**2 + 1 for d in (t, 1 - t)]
    far = [a * (d**3 - 5 * d**2 + 8 * d - 4) for d in (1 + t, 2 - t)]
    return far[0], near[0], near[1], far[1]


@settings(max_examples=8)
@given(height=st.integers(1, 4), width=st.integers(1, 4), new=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_bicubic(height, width, new):
    inputs = random(1, 1, height, width, grad=True)

    def forward(x):
        return functional.interpolate(x, new, mode="bicubic", align_corners=True)

    output = forward(inputs)
    arithmetic = Arithmetic()
    image = arithmetic.numbers(inputs.detach()[0, 0])

    def along(values, at):
        low = math.floor(at)
        return plain_sum([value * weight for value, weight in zip(values, cubic_weights(at - low), strict=True)])

    def clamped(index, size):
        return min(max(index, 0), size - 1)

    for i in range(new[0]):
        for j in range(new[1]):
            y, x = (
                position(index, size, count, align_corners=True)
                for index, size, count in ((i, height, new[0]), (j, width, new[1]))
            )
            rows = [
                along(
                    [
                        image[clamped(math.floor(y) + k, height)][clamped(math.floor(x) + m, width)]
                        for m in range(-1, 3)
                    ],
                    x,
                )
                for k in range(-1, 3)
            ]
            assert along(rows, y).value == pytest.approx(output[0, 0, i, j].item())
    assert both(forward, inputs.detach()).other_flops == arithmetic.count
    assert gradient_flops(forward, [inputs], output.detach()) == arithmetic.count


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_nearest(mode, dimensions):
    """Nearest interpolation is free, and its backward pass costs one sum for each output gradient."""
    inputs = random(1, 2, *[3] * dimensions, grad=True)

    def forward(x):
        return functional.interpolate(x, [5] * dimensions, mode=mode)

    assert both(forward, inputs.detach()).other_flops == 0
    assert gradient_flops(forward, [inputs], forward(inputs.detach())) == 2 * 5**dimensions


def taps(size, new_size, radius, *, align_corners, factor=None):
    """For each output pixel, yield a list of the input pixels that the antialiasing kernel reaches."""
    if align_corners:
        scale = Fraction(size - 1, new_size - 1) if new_size > 1 else Fraction(0)
    else:
        scale = Fraction(size, new_size) if factor is None else 1 / Fraction(factor)
    reach = radius * max(scale, 1)
    for index in range(new_size):
        centre = scale * (index + Fraction(1, 2))
        yield [pixel for pixel in range(size) if -reach < pixel + Fraction(1, 2) - centre <= reach]


def products_and_sums(values, reached):
    return plain_sum([values[pixel] * 1.0 for pixel in reached])


@pytest.mark.parametrize(("mode", "radius"), [("bilinear", 1), ("bicubic", 2)])
@settings(max_examples=15)
@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    new=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    align_corners=st.booleans(),
)
def test_antialiased(mode, radius, sizes, new, align_corners):
    """Antialiased interpolation filters each row and then each column."""
    inputs = random(1, 2, *sizes, grad=True)
    arithmetic = Arithmetic()
    for channel in range(2):
        rows = [
            [products_and_sums(row, reached) for reached in taps(sizes[1], new[1], radius, align_corners=align_corners)]
            for row in arithmetic.numbers(inputs.detach()[0, channel])
        ]
        for column in zip(*rows, strict=True):
            for reached in taps(sizes[0], new[0], radius, align_corners=align_corners):
                products_and_sums(column, reached)

    def forward(x):
        return functional.interpolate(x, new, mode=mode, antialias=True, align_corners=align_corners)

    assert both(forward, inputs.detach()).other_flops == arithmetic.count
    assert gradient_flops(forward, [inputs], forward(inputs.detach())) == arithmetic.count


@pytest.mark.parametrize("factor", [0.5, 2.0, 0.25])
def test_antialiased_by_a_factor(factor):
    size = int(8 * factor)
    across = sum(2 * len(reached) - 1 for reached in taps(8, size, 1, align_corners=False, factor=factor))
    down = size * sum(2 * len(reached) - 1 for reached in taps(8, size, 1, align_corners=False, factor=factor))

    def forward(x):
        return functional.interpolate(x, scale_factor=factor, mode="bilinear", antialias=True)

    assert both(forward, random(1, 1, 8, 8)).other_flops == 8 * across + down


def test_what_an_antialiased_output_is_made_of():
    assert [len(reached) for reached in taps(8, 4, 1, align_corners=False)] == [3, 4, 4, 3]
    weights = functional.interpolate(torch.eye(8)[:, None, None], (1, 4), mode="bilinear", antialias=True)[:, 0, 0]
    assert [(column != 0).sum().item() for column in weights.T] == [3, 4, 4, 3]


@requires("upsampling by Lanczos")
def test_lanczos():
    """The Lanczos kernel reaches three pixels to each side."""
    reached = [len(pixels) for pixels in taps(6, 6, 3, align_corners=False)]
    expected = 6 * sum(2 * count - 1 for count in reached) * 2
    image = random(1, 1, 6, 6)
    assert cost_of(torch.ops.aten._upsample_lanczos2d_aa, (image, [6, 6], False), image) == expected


def test_bytes_are_free():
    image = torch.ones(1, 1, 4, 4, dtype=torch.uint8)
    assert both(lambda x: functional.interpolate(x, (8, 8), mode="bilinear"), image).other_flops == 0


def sampled(arithmetic, image, grid, grad):
    """Return the samples of ``image`` at the points in ``grid``, and the gradients of ``image`` and ``grid``."""
    height, width = image.shape
    forward, backward = arithmetic
    output, of_grid = [], []
    of_image = [[backward.zero() for _ in range(width)] for _ in range(height)]
    pixels = forward.numbers(image)
    again = backward.numbers(image)
    for point, g in zip(grid.tolist(), grad.tolist(), strict=True):
        y, x = _pixel(forward, point[1], height), _pixel(forward, point[0], width)
        output.append(interpolated(pixels, [y, x]))
        y, x = _pixel(backward, point[1], height), _pixel(backward, point[0], width)
        top, left = math.floor(y), math.floor(x)
        v, u = y - top, x - left
        number = backward.numbers(torch.tensor(g, dtype=torch.float64))
        # The transposed interpolation costs two products and a sum in each of three places.
        for row, share in ((top, 1 - v), (top + 1, v)):
            part = number * share
            of_image[row][left] = of_image[row][left] + part * (1 - u)
            of_image[row][left + 1] = of_image[row][left + 1] + part * u
        (a, b), (c, d) = (again[row][left : left + 2] for row in (top, top + 1))
        by_x = (b - a) * (1 - v) + (d - c) * v
        by_y = (c - a) * (1 - u) + (d - b) * u
        slopes = [backward.zero() + slope * number for slope in (by_x, by_y)]
        of_grid.append([slope * (size / 2) for slope, size in zip(slopes, (width, height), strict=True)])
    return output, of_image, of_grid


def _pixel(arithmetic, coordinate, size):
    number = arithmetic.numbers(torch.tensor(coordinate, dtype=torch.float64))
    return (((number + 1) * size - 1) / 2).value


@settings(max_examples=10)
@given(points=st.integers(1, 4), height=st.integers(2, 4), width=st.integers(2, 4))
def test_grid_sample(points, height, width):
    image, grad = random(height, width, grad=True), random(points, seed=2)
    grid = random(points, 2, seed=1).clamp(-0.4, 0.4).requires_grad_()
    forward, backward = Arithmetic(), Arithmetic()
    naive, of_image, of_grid = sampled((forward, backward), image.detach(), grid.detach(), grad)

    def model(image, grid):
        return functional.grid_sample(image[None, None], grid[None, None], align_corners=False)[0, 0, 0]

    output = model(image, grid)
    torch.testing.assert_close(tensor_of(naive), output)
    gradients = torch.autograd.grad(output, (image, grid), grad)
    for expected, actual in zip((of_image, of_grid), gradients, strict=True):
        torch.testing.assert_close(tensor_of(expected), actual)
    assert both(model, (image.detach(), grid.detach())).other_flops == forward.count
    # The transposed map is counted as 9 FLOPs, like the map. The loop above adds in place and needs one FLOP more.
    assert gradient_flops(model, [image, grid], grad) == backward.count - points


@pytest.mark.parametrize(
    ("mode", "dimensions", "forward", "for_image", "for_grid"),
    [
        ("nearest", 2, 0, 1, 0),
        ("bicubic", 2, 35, 35, 2 * 37),
        ("bilinear", 3, 21, 21, 3 * (4 + 9 + 2)),
        ("nearest", 3, 0, 1, 0),
    ],
)
def test_modes_of_grid_sample(mode, dimensions, forward, for_image, for_grid):
    # A coordinate costs 4 FLOPs, and 5 in a backward pass that computes its slope.
    image, points = random(1, 2, *[4] * dimensions, grad=True), 3**dimensions
    grid = random(1, *[3] * dimensions, dimensions).requires_grad_()

    def model(image, grid):
        return functional.grid_sample(image, grid, mode=mode, align_corners=True)

    elements, coordinates = 2 * points, points * dimensions
    assert both(model, (image.detach(), grid.detach())).other_flops == forward * elements + 4 * coordinates
    grad = model(image, grid).detach()
    expected = (for_image + for_grid) * elements + (5 if for_grid else 4) * coordinates
    assert gradient_flops(model, [image, grid], grad) == expected
    expected = for_image * elements + 4 * coordinates
    assert gradient_flops(model, [image, grid.detach()], grad) == expected


@settings(max_examples=10)
@given(batch=st.integers(1, 2), size=st.lists(st.integers(2, 4), min_size=2, max_size=3))
def test_affine_grid(batch, size):
    """`affine_grid` costs a matrix product, in the forward pass and in the backward pass."""
    # Each of d coordinates of a position is a sum of d + 1 products.
    dimensions = len(size)
    theta = random(batch, dimensions, dimensions + 1, grad=True)
    shape = [batch, 1, *size]
    flops = 2 * batch * math.prod(size) * dimensions * (dimensions + 1)

    def model(theta):
        return functional.affine_grid(theta, shape, align_corners=False)

    forward = both(model, theta.detach())
    assert (forward.flops, forward.other_flops) == (flops, 0)
    assert both(model, theta, backward=True).flops == 2 * flops


def test_kernels_of_other_devices():
    aten = torch.ops.aten
    image, grid, output = random(1, 2, 4, 4), random(1, 3, 3, 2), random(1, 2, 3, 3)
    forward = cost_of(aten.grid_sampler_2d, (image, grid, 0, 0, True), output)
    assert forward == 9 * 18 + 4 * 18
    assert cost_of(aten.cudnn_grid_sampler, (image, grid), output) == forward
    assert cost_of(aten._grid_sampler_2d_cpu_fallback, (image, grid, 0, 0, True), output) == forward
    backward = cost_of(aten.grid_sampler_2d_backward, (output, image, grid, 0, 0, True, [True, True]), (image, grid))
    assert backward == (9 + 14) * 18 + 5 * 18
    assert cost_of(aten.cudnn_grid_sampler_backward, (image, grid, output), (image, grid)) == backward
    fallback = (output, image, grid, 0, 0, True)
    assert cost_of(aten._grid_sampler_2d_cpu_fallback_backward, fallback, (image, grid)) == backward
    theta, positions = random(2, 2, 3), random(2, 3, 4, 2)
    for name, given_one, result in (("", theta, positions), ("_backward", positions, theta)):
        operator = getattr(aten, f"cudnn_affine_grid_generator{name}").default
        cost = accounting.cost_of(operator_info(operator), (given_one, 2, 1, 3, 4), {}, result)
        assert cost == (2 * 2 * 3 * 4 * 2 * 3, 0)
