"""Resizing and sampling of images; the weights of neighbours are not counted, since all channels share them.

Per element of the output, a linear interpolation is two products and a sum (3). In two dimensions it is three linear
interpolations (9), in three dimensions seven (21). A cubic interpolation is four products and three sums (7), and five
of these in two dimensions (35). The nearest neighbour is a copy (0). Antialiased resizing interpolates along the width,
then along the height; k neighbours take k products and k - 1 sums. The gradient of the input is the transposed linear
map, which takes as many operations; the gradient of a copy takes one addition.

Sources: the definitions; Keys, "Cubic convolution interpolation for digital image processing", 1981, for the cubic
kernel; Jaderberg et al., "Spatial Transformer Networks", 2015, §3.2 and §3.3, for grids.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.elementary import real_numbers, real_parts
from pytest_flopsbudget.counting.costs.registry import formula, other_formula, per_mac

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_flopsbudget.counting.costs.registry import Call

_LINEAR, BILINEAR, _TRILINEAR, _BICUBIC = 3, 9, 21, 35
#: Operator without "_backward" → operations per element of the output.
_PER_ELEMENT = {
    **{f"aten.{name}{dims}d": 0 for name in ("upsample_nearest", "_upsample_nearest_exact") for dims in (1, 2, 3)},
    "aten.upsample_linear1d": _LINEAR,
    "aten.upsample_bilinear2d": BILINEAR,
    "aten.upsample_trilinear3d": _TRILINEAR,
    "aten.upsample_bicubic2d": _BICUBIC,
}
#: Antialiased operator without "_backward" → how many pixels the kernel reaches to each side.
_RADIUS = {
    "aten._upsample_bilinear2d_aa": 1,
    "aten._upsample_bicubic2d_aa": 2,
    "aten._upsample_lanczos2d_aa": 3,
}


@other_formula(*_PER_ELEMENT)
def _resized(call: Call) -> int:
    return _PER_ELEMENT[call.name] * real_numbers(call.first_output)


@other_formula(*(f"{name}_backward" for name in _PER_ELEMENT))
def _resized_backward(call: Call) -> int:
    return (_PER_ELEMENT[call.name.removesuffix("_backward")] or 1) * real_numbers(call.tensor("grad_output"))


def _neighbours(inputs: int, outputs: int, scale: Fraction, radius: int) -> Iterator[int]:
    """Yield for each output how many inputs contribute to it: those closer than ``radius`` scaled pixels.

    Source: ATen's `HelperInterpBase::_compute_indices_min_size_weights_aa` (UpSampleKernel.cpp). If the image shrinks,
    the kernel is wider by ``scale``; the edges of the image cut it. Fractions make the result exact. PyTorch computes
    with rounded numbers, so for a pixel exactly on the kernel's edge it may decide otherwise.
    """
    support = radius * max(scale, Fraction(1))
    half = Fraction(1, 2)
    for index in range(outputs):
        centre = scale * (index + half)
        first = max(math.floor(centre - support + half), 0)
        yield min(math.floor(centre + support + half), inputs) - first


def _scale(inputs: int, outputs: int, align_corners: bool, factor: float | None) -> Fraction:
    """Return the number of input pixels per output pixel."""
    if align_corners:
        return Fraction(inputs - 1, outputs - 1) if outputs > 1 else Fraction(0)
    return 1 / Fraction(factor) if factor is not None and factor > 0 else Fraction(inputs, outputs)


@other_formula(*(name + backward for name in _RADIUS for backward in ("", "_backward")))
def _antialiased(call: Call) -> int:
    """Count for images (…, height, width) the pass along the width of each input row, then that along the height."""
    radius = _RADIUS[call.name.removesuffix("_backward")]
    images = call.tensor("self", "grad_output")
    before: Sequence[int] = call["input_size"] if "input_size" in call.names else images.shape
    planes, (height, width) = real_parts(images) * math.prod(before[:-2]), before[-2:]
    new_height, new_width = call["output_size"]

    def along(inputs: int, outputs: int, factor: float | None) -> int:
        scale = _scale(inputs, outputs, call["align_corners"], factor)
        return sum(2 * count - 1 for count in _neighbours(inputs, outputs, scale, radius))

    across: int = height * along(width, new_width, call["scales_w"])
    down: int = new_width * along(height, new_height, call["scales_h"])
    return planes * (across + down)


#: Operations that convert a coordinate x in -1 … 1 to pixels: (x + 1)/2 · (size - 1), or ((x + 1)·size - 1)/2.
_TO_PIXELS = 4
#: The product of a coordinate's gradient and the number of pixels per unit.
_FROM_PIXELS = 1
#: Number of dimensions → mode of `torch.nn.functional.grid_sample` → operations per element of the output.
#: The modes are 0 (linear), 1 (nearest) and 2 (bicubic).
_SAMPLES = {2: {0: BILINEAR, 1: 0, 2: _BICUBIC}, 3: {0: _TRILINEAR, 1: 0}}
#: Operations for both slopes of a bilinear sample: for each, two differences, their interpolation, a product and a sum.
BILINEAR_SLOPES = 2 * (2 + _LINEAR + 2)
#: Operations per element of the output for its slopes along all coordinates, by dimensions and mode as above. Bilinear:
#: two differences and their interpolation (3). Trilinear: four differences and their interpolation (9). Bicubic: an
#: interpolation with the kernel's derivative (35). Each slope is multiplied by the output's gradient and summed over
#: channels (2).
_SLOPES = {2: {0: BILINEAR_SLOPES, 1: 0, 2: 2 * (_BICUBIC + 2)}, 3: {0: 3 * (4 + BILINEAR + 2), 1: 0}}


@other_formula(
    "aten.grid_sampler_2d", "aten.grid_sampler_3d", "aten._grid_sampler_2d_cpu_fallback", "aten.cudnn_grid_sampler"
)
def _grid_sampler(call: Call) -> int:
    """Count for the grid (batch, …, dimensions) its pixels, and for the output (batch, channels, …) its samples."""
    grid = call.tensor("grid")
    return _SAMPLES[grid.shape[-1]][_mode(call)] * real_numbers(call.first_output) + _TO_PIXELS * real_numbers(grid)


@other_formula(
    "aten.grid_sampler_2d_backward",
    "aten.grid_sampler_3d_backward",
    "aten._grid_sampler_2d_cpu_fallback_backward",
    "aten.cudnn_grid_sampler_backward",
)
def _grid_sampler_backward(call: Call) -> int:
    """Count the input's gradient, the transposed forward map, and the grid's gradient, which the slopes give."""
    grid, grad = call.tensor("grid"), call.tensor("grad_output")
    dimensions, mode = grid.shape[-1], _mode(call)
    for_input, for_grid = call["output_mask"] if "output_mask" in call.names else (True, True)
    cost = _TO_PIXELS * real_numbers(grid)
    if for_input:
        cost += (_SAMPLES[dimensions][mode] or 1) * real_numbers(grad)
    if for_grid and _SLOPES[dimensions][mode]:
        cost += _SLOPES[dimensions][mode] * real_numbers(grad) + _FROM_PIXELS * real_numbers(grid)
    return cost


def _mode(call: Call) -> int:
    """Return the number of the mode; cuDNN's operators have no such argument and are always bilinear."""
    return int(call["interpolation_mode"]) if "interpolation_mode" in call.names else 0


@formula("aten.affine_grid_generator")
def _affine_grid(call: Call) -> int:
    """Count the product of each position (x, y, …, 1) and the matrix (d, d + 1) of its sample."""
    theta = call.tensor("theta")
    positions: Sequence[int] = call["size"][2:]
    return per_mac(theta) * math.prod(positions) * theta.numel()


@formula("aten.cudnn_affine_grid_generator", "aten.cudnn_affine_grid_generator_backward")
def _fused_affine_grid(call: Call) -> int:
    """Count the products of positions and matrices in two dimensions; the backward pass takes as many.

    The gradient of a matrix is the product of the gradients of all positions and the positions.
    """
    matrix = 2 * 3
    return 2 * int(call["N"]) * int(call["H"]) * int(call["W"]) * matrix
