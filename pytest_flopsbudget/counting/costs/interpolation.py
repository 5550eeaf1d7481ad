"""Resizing and sampling of images; the weights of neighbours are not counted, since they serve all channels.

Per element of the output: a linear interpolation is two products and a sum (3), in two dimensions three of them (9), in
three dimensions seven (21). A cubic one is four products and three sums (7), in two dimensions five of them (35). The
nearest neighbour is a copy (0). Antialiased resizing goes along the width, then along the height; k neighbours are k
products and k - 1 sums. The gradient of the input is the transposed linear map, with as many operations; of a copy it
is one addition.

Sources: the definitions; Keys, "Cubic convolution interpolation for digital image processing", 1981, for the cubic
kernel; Jaderberg et al., "Spatial Transformer Networks", 2015, §3.2 and §3.3, for grids.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.elementary import real_parts
from pytest_flopsbudget.counting.costs.registry import formula, other_formula, per_mac

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from pytest_flopsbudget.counting.costs.registry import Call

_LINEAR, _BILINEAR, _TRILINEAR, _BICUBIC = 3, 9, 21, 35


def _elements(tensor: torch.Tensor) -> int:
    return real_parts(tensor) * tensor.numel()


def _resized(call: Call) -> int:
    """Elements of the output, or of its gradient."""
    return _elements(call.tensor("grad_output") if "grad_output" in call.names else call.first_output)


@other_formula(
    "aten.upsample_nearest1d",
    "aten.upsample_nearest2d",
    "aten.upsample_nearest3d",
    "aten._upsample_nearest_exact1d",
    "aten._upsample_nearest_exact2d",
    "aten._upsample_nearest_exact3d",
)
def _nearest(_call: Call) -> int:
    """Copies."""
    return 0


@other_formula(
    "aten.upsample_nearest1d_backward",
    "aten.upsample_nearest2d_backward",
    "aten.upsample_nearest3d_backward",
    "aten._upsample_nearest_exact1d_backward",
    "aten._upsample_nearest_exact2d_backward",
    "aten._upsample_nearest_exact3d_backward",
)
def _nearest_backward(call: Call) -> int:
    return _resized(call)


@other_formula("aten.upsample_linear1d", "aten.upsample_linear1d_backward")
def _linear(call: Call) -> int:
    return _LINEAR * _resized(call)


@other_formula("aten.upsample_bilinear2d", "aten.upsample_bilinear2d_backward")
def _bilinear(call: Call) -> int:
    return _BILINEAR * _resized(call)


@other_formula("aten.upsample_trilinear3d", "aten.upsample_trilinear3d_backward")
def _trilinear(call: Call) -> int:
    return _TRILINEAR * _resized(call)


@other_formula("aten.upsample_bicubic2d", "aten.upsample_bicubic2d_backward")
def _bicubic(call: Call) -> int:
    return _BICUBIC * _resized(call)


def _neighbours(inputs: int, outputs: int, scale: Fraction, radius: int) -> Iterator[int]:
    """Return how many inputs contribute to each output: those closer than ``radius`` scaled pixels.

    As in ATen's `HelperInterpBase::_compute_indices_min_size_weights_aa` (UpSampleKernel.cpp): shrinking widens the
    kernel by ``scale``, and the image's edges cut it. In exact numbers: where a pixel lies on the kernel's edge,
    PyTorch takes it in or not as its own numbers round.
    """
    support = radius * max(scale, Fraction(1))
    half = Fraction(1, 2)
    for index in range(outputs):
        centre = scale * (index + half)
        first = max(math.floor(centre - support + half), 0)
        yield min(math.floor(centre + support + half), inputs) - first


def _scale(inputs: int, outputs: int, align_corners: bool, factor: float | None) -> Fraction:
    """Input pixels per output pixel."""
    if align_corners:
        return Fraction(inputs - 1, outputs - 1) if outputs > 1 else Fraction(0)
    return 1 / Fraction(factor) if factor is not None and factor > 0 else Fraction(inputs, outputs)


def _antialiased(call: Call, radius: int) -> int:
    """Count images (…, height, width): first along the width of every input row, then along the height."""
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


@other_formula("aten._upsample_bilinear2d_aa", "aten._upsample_bilinear2d_aa_backward")
def _antialiased_bilinear(call: Call) -> int:
    return _antialiased(call, 1)


@other_formula("aten._upsample_bicubic2d_aa", "aten._upsample_bicubic2d_aa_backward")
def _antialiased_bicubic(call: Call) -> int:
    return _antialiased(call, 2)


@other_formula("aten._upsample_lanczos2d_aa", "aten._upsample_lanczos2d_aa_backward")
def _antialiased_lanczos(call: Call) -> int:
    return _antialiased(call, 3)


#: (x + 1)/2 · (size - 1), or ((x + 1)·size - 1)/2: from -1 … 1 to pixels.
_TO_PIXELS = 4
#: In the gradient of a coordinate: its factor, the pixels per unit.
_FROM_PIXELS = 1
#: `torch.nn.functional.grid_sample`'s modes as its operators number them → operations per element of the output.
_SAMPLES = {2: {0: _BILINEAR, 1: 0, 2: _BICUBIC}, 3: {0: _TRILINEAR, 1: 0}}
#: The slope of each output along each coordinate. Bilinear: two differences, interpolated (3). Trilinear: four
#: differences, interpolated (9). Bicubic: an interpolation with the kernel's derivative (35). Each slope is multiplied
#: by the output's gradient and summed over channels: 2.
_SLOPES = {2: {0: 2 * (2 + _LINEAR + 2), 1: 0, 2: 2 * (_BICUBIC + 2)}, 3: {0: 3 * (4 + _BILINEAR + 2), 1: 0}}


@other_formula(
    "aten.grid_sampler_2d", "aten.grid_sampler_3d", "aten._grid_sampler_2d_cpu_fallback", "aten.cudnn_grid_sampler"
)
def _grid_sampler(call: Call) -> int:
    """Grid (batch, …, dimensions), output (batch, channels, …)."""
    grid = call.tensor("grid")
    return _SAMPLES[grid.shape[-1]][_mode(call)] * _elements(call.first_output) + _TO_PIXELS * _elements(grid)


@other_formula(
    "aten.grid_sampler_2d_backward",
    "aten.grid_sampler_3d_backward",
    "aten._grid_sampler_2d_cpu_fallback_backward",
    "aten.cudnn_grid_sampler_backward",
)
def _grid_sampler_backward(call: Call) -> int:
    """The gradient of the input goes the forward way back; that of the grid is the output's slope."""
    grid, grad = call.tensor("grid"), call.tensor("grad_output")
    dimensions, mode = grid.shape[-1], _mode(call)
    for_input, for_grid = call["output_mask"] if "output_mask" in call.names else (True, True)
    cost = _TO_PIXELS * _elements(grid)
    if for_input:
        cost += (_SAMPLES[dimensions][mode] or 1) * _elements(grad)
    if for_grid and _SLOPES[dimensions][mode]:
        cost += _SLOPES[dimensions][mode] * _elements(grad) + _FROM_PIXELS * _elements(grid)
    return cost


def _mode(call: Call) -> int:
    """Bilinear is all that cuDNN has."""
    return int(call["interpolation_mode"]) if "interpolation_mode" in call.names else 0


@formula("aten.affine_grid_generator")
def _affine_grid(call: Call) -> int:
    """Every position (x, y, …, 1) is multiplied by its sample's matrix (d, d + 1)."""
    theta = call.tensor("theta")
    positions: Sequence[int] = call["size"][2:]
    return per_mac(theta) * math.prod(positions) * theta.numel()


@formula("aten.cudnn_affine_grid_generator", "aten.cudnn_affine_grid_generator_backward")
def _fused_affine_grid(call: Call) -> int:
    """In two dimensions; backward, the gradients of all positions by the positions."""
    matrix = 2 * 3
    return 2 * int(call["N"]) * int(call["H"]) * int(call["W"]) * matrix
