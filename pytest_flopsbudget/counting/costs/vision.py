"""The operators that torchvision registers: deformable convolution, pooling of regions, non-maximum suppression.

They are registered by name, so this file does not import torchvision.

Deformable convolution: the products are those of a dense convolution, but offsets shift the positions of its inputs
(Dai et al., "Deformable Convolutional Networks", 2017, §2.1). Each input costs one bilinear interpolation (9). If there
are masks, it also costs one product with its mask (Zhu et al., "Deformable ConvNets v2", 2019, §3.2). Each coordinate
costs one sum with its offset.

Pooling of regions: `roi_align` (He et al., "Mask R-CNN", 2017, §3) averages bilinear samples in each bin. s samples
cost 9·s for their interpolation and s for the average. `roi_pool` (Girshick, "Fast R-CNN", 2015, §2.1) computes the
maximum of the inputs in each bin, and `ps_roi_pool` (Dai et al., "R-FCN", 2016, §2) computes their average. The
positions of samples are not counted, since all channels share them. The size of a bin depends on the values of the
regions. If these values are not known, each region counts as the whole image.

Non-maximum suppression: every pair of boxes is compared, even if a box was suppressed earlier. This is the most
expensive case of the greedy algorithm, and it is the work of the kernels for GPUs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from pytest_flopsbudget.counting.costs.interpolation import BILINEAR, BILINEAR_SLOPES
from pytest_flopsbudget.counting.costs.registry import operator, per_mac
from pytest_flopsbudget.counting.tensors.metadata import has_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flopsbudget.counting.costs.registry import Call


def _deformable(call: Call) -> int:
    weight = call.tensor("weight")
    return per_mac(weight) * call.first_output.numel() * math.prod(weight.shape[1:])


def _samples(call: Call, positions: torch.Tensor) -> int:
    """Return the number of inputs that a deformable convolution interpolates for the output positions ``positions``."""
    images, weight = call.tensor("input"), call.tensor("weight")
    return images.shape[0] * images.shape[1] * math.prod(weight.shape[2:]) * math.prod(positions.shape[2:])


def _deformable_around(call: Call) -> int:
    """Count the operations of offsets, interpolation, masks and bias in a deformable convolution."""
    output = call.first_output
    per_sample = BILINEAR + bool(call["use_mask"])
    return call.tensor("offset").numel() + per_sample * _samples(call, output) + output.numel()


class _Requested(NamedTuple):
    """The gradients that one call of the backward pass of a deformable convolution must compute."""

    input: bool
    weight: bool
    offset: bool
    mask: bool
    bias: bool


def _requested(call: Call) -> _Requested:
    """Return which gradients the call must compute: those of the operands that require gradients.

    If no operand requires a gradient, as in compiled code, all gradients count as requested.
    """
    found = [call.tensor(name).requires_grad for name in ("input", "weight", "offset", "mask", "bias")]
    requested = _Requested(*found) if any(found) else _Requested(*(True for _ in found))
    return requested._replace(mask=requested.mask and bool(call["use_mask"]))


def _deformable_backward(call: Call) -> int:
    """Count the FLOPs of the products that the requested gradients need.

    One product is for the gradients of inputs, offsets and masks, and another product is for the weight's gradient.
    """
    grad, weight, requested = call.tensor("grad"), call.tensor("weight"), _requested(call)
    products = (requested.input or requested.offset or requested.mask) + requested.weight
    return products * per_mac(weight) * grad.numel() * math.prod(weight.shape[1:])


def _deformable_around_backward(call: Call) -> int:
    """Count the operations of the requested gradients of a deformable convolution, except for its products."""
    grad, requested = call.tensor("grad"), _requested(call)
    per_sample = BILINEAR * requested.input + BILINEAR_SLOPES * requested.offset + 2 * requested.mask
    if call["use_mask"]:
        per_sample += requested.input or requested.offset
    # image: the transposed interpolation; offsets: the slopes along both coordinates; mask: a product and a sum
    bias = max(grad.numel() - grad.shape[1], 0) if requested.bias else 0
    return per_sample * _samples(call, grad) + bias


def _regions(call: Call) -> torch.Tensor:
    """Return the regions: one row (image, x1, y1, x2, y2) for each region."""
    return call.tensor("rois").detach()


def _image_size(call: Call) -> tuple[int, int]:
    """Return the height and width of the images."""
    if "height" in call.names:
        return int(call["height"]), int(call["width"])
    height, width = call.tensor("input").shape[2:]
    return height, width


def _bins(call: Call) -> tuple[int, int]:
    return int(call["pooled_height"]), int(call["pooled_width"])


def _pooled(call: Call) -> torch.Tensor:
    """Return the output (regions, channels, bins along the height, bins along the width), or its gradient."""
    return call.tensor("grad") if "grad" in call.names else call.first_output


def _extents(call: Call, *, half_pixel: bool) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (starts, ends) of all regions in pixels: first along the height, then along the width.

    If ``half_pixel`` is true, all numbers are smaller by 0.5.
    """
    corners = _regions(call)[:, 1:] * call["spatial_scale"] - (0.5 if half_pixel else 0.0)
    yield corners[:, 1], corners[:, 3]
    yield corners[:, 0], corners[:, 2]


def _samples_in_bins(call: Call) -> int:
    """Return the number of samples in one bin of each region, summed over the regions."""
    ratio, regions = int(call["sampling_ratio"]), _regions(call)
    if ratio > 0:
        return regions.shape[0] * ratio**2
    if not has_data(regions):
        return regions.shape[0] * math.prod(
            math.ceil(n / m) for n, m in zip(_image_size(call), _bins(call), strict=True)
        )
    aligned = bool(call["aligned"]) if "aligned" in call.names else True
    # A bin has a grid of samples: one for each pixel of its height, times one for each pixel of its width.
    counts = torch.ones(regions.shape[0], dtype=torch.int64, device=regions.device)
    for (start, end), bins in zip(_extents(call, half_pixel=aligned), _bins(call), strict=True):
        size = end - start if aligned else (end - start).clamp(min=1)
        counts *= (size / bins).ceil().clamp(min=0).long()
    return int(counts.sum())


def _aligned(call: Call) -> int:
    """Count 10 operations for each sample: 9 for its interpolation, and 1 for the average over its bin.

    The backward pass is the transposed linear map, which costs as much.
    """
    pooled = _pooled(call)
    return (BILINEAR + 1) * _samples_in_bins(call) * math.prod(pooled.shape[1:])


def _inputs_in_bins(call: Call, extra: int) -> tuple[int, int]:
    """Return the number of inputs in all bins, and the number of bins that have inputs, for one channel.

    If the regions have no data, both numbers are upper bounds.

    Args:
        call: the call of the operator.
        extra: 1 if the last row and the last column of a region belong to it, else 0.
    """
    regions, bins = _regions(call), _bins(call)
    if not has_data(regions):  # bins overlap by at most one row, so n rows in m bins are at most n + m - 1
        sizes = zip(_image_size(call), bins, strict=True)
        return regions.shape[0] * math.prod(n + m - 1 for n, m in sizes), regions.shape[0] * math.prod(bins)
    # Of a region's n rows, bin i of m has the rows from floor(i·n/m) to ceil((i + 1)·n/m), without rows outside of the
    # image. The columns are divided like the rows.
    along: list[torch.Tensor] = []
    for (start, end), image, count in zip(_extents(call, half_pixel=False), _image_size(call), bins, strict=True):
        first = _rounded(start)
        size = (_rounded(end) - first + extra).clamp(min=1)[:, None] / count
        index = torch.arange(count, device=regions.device)
        lower = ((index * size).floor() + first[:, None]).clamp(0, image)
        upper = (((index + 1) * size).ceil() + first[:, None]).clamp(0, image)
        along.append((upper - lower).clamp(min=0).long())
    inputs = along[0].sum(1) * along[1].sum(1)
    filled = (along[0] > 0).sum(1) * (along[1] > 0).sum(1)
    return int(inputs.sum()), int(filled.sum())


def _rounded(values: torch.Tensor) -> torch.Tensor:
    """Round halves away from zero, as C does; `torch.round` rounds halves to even numbers."""
    return values.sign() * (values.abs() + 0.5).floor()


def _maxima(call: Call) -> int:
    """Count k - 1 comparisons for each bin of k inputs."""
    inputs, bins = _inputs_in_bins(call, extra=1)
    return _pooled(call).shape[1] * (inputs - bins)


def _averages(call: Call) -> int:
    """Count k operations for each bin of k inputs. The backward pass costs as much as the forward pass."""
    inputs, _ = _inputs_in_bins(call, extra=0)
    return _pooled(call).shape[1] * inputs


def _sampled_by_values(call: Call) -> Iterator[torch.Tensor]:
    if int(call["sampling_ratio"]) <= 0:
        yield _regions(call)


def _pooled_by_values(call: Call) -> Iterator[torch.Tensor]:
    yield _regions(call)


#: Operations for the overlap of two boxes: two maxima and two minima of corners (4), width and height (2) and their
#: maximum with 0 (2), the intersection (1), the union (2), their quotient (1), and its comparison with the threshold
#: (1).
_OVERLAP = 13


def _suppression(call: Call) -> int:
    """Count the operations of the boxes' areas, of a sort of the scores, and of the overlap of each pair of boxes."""
    count = call.tensor("scores").numel()
    comparisons = math.ceil(math.log2(count)) if count > 1 else 0
    return count * (3 + comparisons) + _OVERLAP * (count * (count - 1) // 2)


operator("torchvision.deform_conv2d", flops=_deformable, other=_deformable_around)
operator(
    "torchvision._deform_conv2d_backward",
    flops=_deformable_backward,
    other=_deformable_around_backward,
    by_gradients=True,
)
operator(
    *("torchvision.roi_align", "torchvision._roi_align_backward", "torchvision.qroi_align"),
    *("torchvision.ps_roi_align", "torchvision._ps_roi_align_backward"),
    other=_aligned,
    values=_sampled_by_values,
)
operator("torchvision.roi_pool", other=_maxima, values=_pooled_by_values)
operator("torchvision._roi_pool_backward", other=lambda call: call.tensor("grad").numel())
operator("torchvision.ps_roi_pool", "torchvision._ps_roi_pool_backward", other=_averages, values=_pooled_by_values)
operator("torchvision.nms", "torchvision.qnms", other=_suppression, needs_data=True)
