"""Resizing and sampling of images. The weights of neighbours are not counted, since all channels share them.

Operations per output element:

- Nearest neighbour: a copy, which costs 0.
- Linear interpolation: 2 products and 1 sum, together 3.
- Bilinear: 3 linear interpolations, together 9. Trilinear: 7 linear interpolations, together 21.
- Cubic interpolation in one dimension: 4 products and 3 sums, together 7.
- Bicubic: 5 cubic interpolations, together 35.
- Antialiased: k products and k - 1 sums for k neighbours. It interpolates along the width first, then along the height.

The gradient of the input is the transposed linear map, which costs as much as the forward pass. The gradient of a copy
costs one addition.

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
#: Name of an operator without "_backward" → operations per element of the output.
_PER_ELEMENT = {
    **{f"aten.{name}{dims}d": 0 for name in ("upsample_nearest", "_upsample_nearest_exact") for dims in (1, 2, 3)},
    "aten.upsample_linear1d": _LINEAR,
    "aten.upsample_bilinear2d": BILINEAR,
    "aten.upsample_trilinear3d": _TRILINEAR,
    "aten.upsample_bicubic2d": _BICUBIC,
}
#: Name of an antialiased operator without "_backward" → number of pixels that the kernel reaches to each side.
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
    """Yield for each output pixel the number of input pixels that the kernel covers.

    The kernel reaches ``radius`` input pixels to each side. If the image shrinks, this distance is multiplied by
    ``scale``, the number of input pixels per output pixel.

    Source: ATen's `HelperInterpBase::_compute_indices_min_size_weights_aa` (UpSampleKernel.cpp).
    """
    support = radius * max(scale, Fraction(1))
    half = Fraction(1, 2)  # exact; PyTorch's rounded numbers may differ for a pixel on the kernel's edge
    for index in range(outputs):
        centre = scale * (index + half)
        first = max(math.floor(centre - support + half), 0)
        yield min(math.floor(centre + support + half), inputs) - first


def _scale(inputs: int, outputs: int, align_corners: bool, factor: float | None) -> Fraction:
    """Return the number of input pixels per output pixel.

    The argument ``factor`` is the number of output pixels per input pixel, or None if the call does not give it.
    """
    if align_corners:
        return Fraction(inputs - 1, outputs - 1) if outputs > 1 else Fraction(0)
    return 1 / Fraction(factor) if factor is not None and factor > 0 else Fraction(inputs, outputs)


@other_formula(*(name + backward for name in _RADIUS for backward in ("", "_backward")))
def _antialiased(call: Call) -> int:
    """Count the operations of a pass along the width of each input row, and then of a pass along the height."""
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
#: Operations for the gradient of a coordinate: one product with the number of pixels per unit.
_FROM_PIXELS = 1
#: Number of dimensions → mode of `torch.nn.functional.grid_sample` → operations per element of the output. The modes
#: are 0 (linear), 1 (nearest) and 2 (bicubic).
_SAMPLES = {2: {0: BILINEAR, 1: 0, 2: _BICUBIC}, 3: {0: _TRILINEAR, 1: 0}}
#: Operations for the two slopes of a bilinear sample. Each slope needs two differences, their interpolation, a product
#: and a sum.
BILINEAR_SLOPES = 2 * (2 + _LINEAR + 2)
#: Number of dimensions → mode of `torch.nn.functional.grid_sample` → operations per output element for the slopes along
#: all coordinates. The cost of one slope:
#:
#: - Bilinear: two differences and their interpolation (3).
#: - Trilinear: four differences and their interpolation (9).
#: - Bicubic: one interpolation with the kernel's derivative (35).
#:
#: Each slope is then multiplied by the output's gradient and summed over the channels (2).
_SLOPES = {2: {0: BILINEAR_SLOPES, 1: 0, 2: 2 * (_BICUBIC + 2)}, 3: {0: 3 * (4 + BILINEAR + 2), 1: 0}}


@other_formula(
    "aten.grid_sampler_2d", "aten.grid_sampler_3d", "aten._grid_sampler_2d_cpu_fallback", "aten.cudnn_grid_sampler"
)
def _grid_sampler(call: Call) -> int:
    """Count the operations of converting the grid to pixels, and of interpolating the samples.

    The grid is (batch, …, dimensions), and the output is (batch, channels, …).
    """
    grid = call.tensor("grid")
    return _SAMPLES[grid.shape[-1]][_mode(call)] * real_numbers(call.first_output) + _TO_PIXELS * real_numbers(grid)


@other_formula(
    "aten.grid_sampler_2d_backward",
    "aten.grid_sampler_3d_backward",
    "aten._grid_sampler_2d_cpu_fallback_backward",
    "aten.cudnn_grid_sampler_backward",
)
def _grid_sampler_backward(call: Call) -> int:
    """Count the operations of converting the grid to pixels, and of the requested gradients of input and grid."""
    grid, grad = call.tensor("grid"), call.tensor("grad_output")
    dimensions, mode = grid.shape[-1], _mode(call)
    for_input, for_grid = call["output_mask"] if "output_mask" in call.names else (True, True)
    cost = _TO_PIXELS * real_numbers(grid)
    if for_input:
        # as in the forward pass, but a copy costs one addition
        cost += (_SAMPLES[dimensions][mode] or 1) * real_numbers(grad)
    if for_grid and _SLOPES[dimensions][mode]:
        cost += _SLOPES[dimensions][mode] * real_numbers(grad) + _FROM_PIXELS * real_numbers(grid)
    return cost


def _mode(call: Call) -> int:
    """Return PyTorch's number for the interpolation mode.

    cuDNN's operators have no argument for the mode. They are always bilinear, which is mode 0.
    """
    return int(call["interpolation_mode"]) if "interpolation_mode" in call.names else 0


@formula("aten.affine_grid_generator")
def _affine_grid(call: Call) -> int:
    """Count the FLOPs of each position (x, y, …, 1) times its sample's matrix (d, d + 1), in d dimensions."""
    theta = call.tensor("theta")
    positions: Sequence[int] = call["size"][2:]
    return per_mac(theta) * math.prod(positions) * theta.numel()


@formula("aten.cudnn_affine_grid_generator", "aten.cudnn_affine_grid_generator_backward")
def _fused_affine_grid(call: Call) -> int:
    """Count the FLOPs of each position (x, y, 1) times its sample's matrix (2, 3).

    The backward pass costs as much as the forward pass.
    """
    matrix = 2 * 3
    return 2 * int(call["N"]) * int(call["H"]) * int(call["W"]) * matrix
