"""Operators of torchvision cost as much as their definitions in loops.

If torchvision is not installed, this file defines its operators with their schemas.
"""

from __future__ import annotations

import math

import pytest
import torch

from pytest_flopsbudget import measure
from pytest_flopsbudget.counting.costs.registry import Cost
from pytest_flopsbudget.counting.operators.accounting import cost_of
from pytest_flopsbudget.counting.operators.info import operator_info

SCHEMAS = """
nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor
roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, \
int sampling_ratio, bool aligned) -> Tensor
roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) -> (Tensor, Tensor)
ps_roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, \
int sampling_ratio) -> (Tensor, Tensor)
ps_roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) \
-> (Tensor, Tensor)
deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, SymInt stride_w, \
SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask) \
-> Tensor
_roi_align_backward(Tensor grad, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, \
SymInt batch_size, SymInt channels, SymInt height, SymInt width, int sampling_ratio, bool aligned) -> Tensor
_roi_pool_backward(Tensor grad, Tensor rois, Tensor argmax, float spatial_scale, SymInt pooled_height, \
SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width) -> Tensor
_ps_roi_align_backward(Tensor grad, Tensor rois, Tensor channel_mapping, float spatial_scale, SymInt pooled_height, \
SymInt pooled_width, int sampling_ratio, SymInt batch_size, SymInt channels, SymInt height, SymInt width) -> Tensor
_ps_roi_pool_backward(Tensor grad, Tensor rois, Tensor channel_mapping, float spatial_scale, SymInt pooled_height, \
SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width) -> Tensor
_deform_conv2d_backward(Tensor grad, Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, \
SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, \
SymInt offset_groups, bool use_mask) -> (Tensor, Tensor, Tensor, Tensor, Tensor)
"""


def defined():
    """Define torchvision's operators, and kernels for some of them."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS.strip().splitlines():
        library.define(schema)
    library.impl("deform_conv2d", lambda x, w, o, *_: x.new_empty(x.shape[0], w.shape[0], *o.shape[2:]), "Meta")
    library.impl("roi_align", lambda x, r, _, h, w, *__: x.new_empty(r.shape[0], x.shape[1], h, w), "Meta")
    library.impl("roi_align", lambda x, r, _, h, w, *__: x.new_zeros(r.shape[0], x.shape[1], h, w), "CPU")
    library.impl("nms", lambda boxes, *_: torch.arange(boxes.shape[0]), "CPU")
    return library


try:
    import torchvision  # noqa: F401
except Exception:  # noqa: BLE001 -- not installed, or built for another version or device
    LIBRARY = defined()

ops = torch.ops.torchvision


def cost(operator, args, output):
    info = operator_info(operator.default)
    assert info.known
    return cost_of(info, args, {}, output)


# --- deformable convolutions ------------------------------------------------------------------------------------------

SHAPES = [
    # images, channels, height and width, outputs, kernel, groups, groups of offsets
    (1, 4, 9, 6, 3, 1, 1),
    (2, 4, 7, 8, 2, 2, 2),
    (3, 6, 5, 6, 1, 3, 1),
]


def operands(shape, *, masked=True, grad=()):
    """Return the arguments of a deformable convolution and the size of its output."""
    images, channels, size, outputs, kernel, groups, offset_groups = shape
    side = size - kernel + 1
    tensors = {
        "input": torch.zeros(images, channels, size, size),
        "weight": torch.zeros(outputs, channels // groups, kernel, kernel),
        "offset": torch.zeros(images, 2 * offset_groups * kernel**2, side, side),
        "mask": torch.zeros(images, offset_groups * kernel**2, side, side) if masked else torch.zeros(images, 1),
        "bias": torch.zeros(outputs),
    }
    for name in grad:
        tensors[name].requires_grad_()
    return (*tensors.values(), 1, 1, 0, 0, 1, 1, groups, offset_groups, masked), (images, outputs, side, side)


def dense(args, output):
    """Return the FLOPs of a dense convolution: 2 for each product."""
    weight = args[1]
    return sum(2 for _ in range(output.numel()) for _ in range(weight[0].numel()))


def samples(args, output):
    images, weight = args[0], args[1]
    return images.shape[0] * images.shape[1] * weight[0, 0].numel() * output[0, 0].numel()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("masked", [True, False])
def test_deformable_convolution(shape, masked):
    """A deformable convolution interpolates each value before the product with a weight."""
    # Three linear interpolations, each of two products and one sum, and a product with the mask.
    args, size = operands(shape, masked=masked)
    output = torch.zeros(size)
    around = args[2].numel() + (3 * 3 + masked) * samples(args, output) + output.numel()
    assert cost(ops.deform_conv2d, args, output) == Cost(dense(args, output), around)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("grad", "products", "per_sample"),
    [
        ((), 2, 1 + 9 + 14 + 2),  # compiled code requires no gradients, so all of them count
        (("weight",), 1, 0),
        (("input",), 1, 1 + 9),
        (("offset",), 1, 1 + 14),
        (("mask",), 1, 2),
        (("input", "weight", "offset", "mask", "bias"), 2, 1 + 9 + 14 + 2),
    ],
    ids=str,
)
def test_deformable_convolution_backward(shape, grad, products, per_sample):
    # Each of the two slopes of an offset costs two differences, an interpolation (3), a product and a sum.
    args, size = operands(shape, grad=grad)
    output = torch.zeros(size)
    bias = output.numel() - size[1] if not grad or "bias" in grad else 0
    found = cost(ops._deform_conv2d_backward, (output, *args), args[:5])
    assert found == Cost(products * dense(args, output), per_sample * samples(args, output) + bias)


def test_deformable_convolution_measured():
    args, _ = operands((1, 4, 9, 6, 3, 1, 1), masked=False)
    result = measure(lambda *tensors: ops.deform_conv2d(*tensors, *args[5:]), args[:5])
    assert (result.flops, result.execution) == (2 * 7 * 7 * 4 * 9 * 6, "shapes")
    assert not result.unknown_operators


# --- pooling of regions -----------------------------------------------------------------------------------------------

IMAGES = torch.zeros(1, 8, 12, 10)
BINS = (2, 3)
REGIONS = [
    [[0, 1, 1, 7, 5]],
    [[0, 0, 0, 9.4, 11.2], [0, 2.5, 3.5, 2.6, 8.5]],
    [[0, 4, 4, 4, 4], [0, 3, 2, 8, 11], [0, 6, 8, 30, 40]],
]


def regions(rows):
    return torch.tensor(rows, dtype=torch.float32)


def edges(row, scale):
    """Return (start, end) of a region along the height, and (start, end) along the width."""
    x1, y1, x2, y2 = (value * scale for value in row[1:])
    return (y1, y2), (x1, x2)


def sampled(rows, scale, ratio, *, aligned):
    """Return the number of samples for one channel in all regions.

    If ``ratio`` is not positive, each bin has about one sample for each pixel.
    """
    total = 0
    for row in rows:
        counts = []
        for (start, end), bins in zip(edges(row, scale), BINS, strict=True):
            size = end - start if aligned else max(end - start, 1)
            counts.append(ratio if ratio > 0 else math.ceil(size / bins))
        total += sum(1 for _ in range(math.prod(BINS)) for _ in range(counts[0]) for _ in range(counts[1]))
    return total


def away_from_zero(value):
    return math.floor(value + 0.5)


def windows(row, scale, extra):
    """Yield the number of inputs in each bin of a region."""
    along = []
    for (start, end), bins, size in zip(edges(row, scale), BINS, IMAGES.shape[2:], strict=True):
        first = away_from_zero(start)
        length = max(away_from_zero(end) - first + extra, 1)
        along.append(
            [
                len(
                    [
                        pixel
                        for pixel in range(
                            first + math.floor(index * length / bins), first + math.ceil((index + 1) * length / bins)
                        )
                        if 0 <= pixel < size
                    ]
                )
                for index in range(bins)
            ]
        )
    for height in along[0]:
        for width in along[1]:
            yield height * width


@pytest.mark.parametrize("rows", REGIONS, ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.5])
class TestRegions:
    @pytest.mark.parametrize("ratio", [2, 3, 0, -1])
    @pytest.mark.parametrize("aligned", [True, False])
    def test_samples(self, rows, scale, ratio, aligned):
        """RoI align costs 9 FLOPs for the interpolation of each sample, and 1 for the average."""
        pooled = torch.zeros(len(rows), 8, *BINS)
        right = Cost(0, 8 * (9 + 1) * sampled(rows, scale, ratio, aligned=aligned))
        rois = regions(rows)
        assert cost(ops.roi_align, (IMAGES, rois, scale, *BINS, ratio, aligned), pooled) == right
        backward = (pooled, rois, scale, *BINS, *IMAGES.shape, ratio, aligned)
        assert cost(ops._roi_align_backward, backward, IMAGES) == right

    @pytest.mark.parametrize("ratio", [2, 0])
    def test_samples_of_one_channel_for_each_bin(self, rows, scale, ratio):
        images, pooled = torch.zeros(1, 12, 12, 10), torch.zeros(len(rows), 2, *BINS)
        right = Cost(0, 2 * (9 + 1) * sampled(rows, scale, ratio, aligned=True))
        rois = regions(rows)
        assert cost(ops.ps_roi_align, (images, rois, scale, *BINS, ratio), (pooled, pooled)) == right
        backward = (pooled, rois, pooled, scale, *BINS, ratio, *images.shape)
        assert cost(ops._ps_roi_align_backward, backward, images) == right

    def test_maxima(self, rows, scale):
        """RoI pooling costs k - 1 comparisons for a bin of k inputs."""
        # The backward pass costs one sum for each output.
        pooled = torch.zeros(len(rows), 8, *BINS)
        comparisons = sum(max(count - 1, 0) for row in rows for count in windows(row, scale, extra=1))
        assert cost(ops.roi_pool, (IMAGES, regions(rows), scale, *BINS), (pooled, pooled)) == Cost(0, 8 * comparisons)
        backward = (pooled, regions(rows), pooled, scale, *BINS, *IMAGES.shape)
        assert cost(ops._roi_pool_backward, backward, IMAGES) == Cost(0, pooled.numel())

    def test_averages(self, rows, scale):
        """Position-sensitive RoI pooling costs k FLOPs for a bin of k inputs."""
        images, pooled = torch.zeros(1, 12, 12, 10), torch.zeros(len(rows), 2, *BINS)
        right = Cost(0, 2 * sum(count for row in rows for count in windows(row, scale, extra=0)))
        assert cost(ops.ps_roi_pool, (images, regions(rows), scale, *BINS), (pooled, pooled)) == right
        backward = (pooled, regions(rows), pooled, scale, *BINS, *images.shape)
        assert cost(ops._ps_roi_pool_backward, backward, images) == right


class TestUnknownRegions:
    """If the values of the regions are unknown, each region counts as the whole image."""

    def test_samples(self):
        rois = regions(REGIONS[1]).to("meta")
        result = measure(lambda x, r: ops.roi_align(x, r, 1.0, *BINS, 0, True), (IMAGES, rois))
        assert result.other_flops == 2 * 8 * 6 * (9 + 1) * (12 // 2) * math.ceil(10 / 3)
        assert "upper bound" in result.notes[0]

    def test_samples_of_a_fixed_number(self):
        result = measure(lambda x, r: ops.roi_align(x, r, 1.0, *BINS, 2, True), (IMAGES, regions(REGIONS[1])))
        assert (result.other_flops, result.execution, result.notes) == (2 * 8 * 6 * (9 + 1) * 4, "shapes", ())

    def test_samples_with_data(self):
        """If the number of samples depends on the regions, RoI align runs on data."""
        result = measure(lambda x, r: ops.roi_align(x, r, 1.0, *BINS, 0, True), (IMAGES, regions(REGIONS[1])))
        assert result.other_flops == 8 * (9 + 1) * sampled(REGIONS[1], 1.0, 0, aligned=True)
        assert result.execution == "real"
        assert not any("upper bound" in note for note in result.notes)

    @pytest.mark.parametrize("operator", [ops.roi_pool, ops.ps_roi_pool])
    @pytest.mark.parametrize("rows", REGIONS[:2], ids=str)
    def test_windows(self, operator, rows):
        images, pooled = torch.zeros(1, 12, 12, 10), torch.zeros(len(rows), 2, *BINS)
        known, unknown = (
            cost(operator, (images, rois, 1.0, *BINS), (pooled, pooled)).other_flops
            for rois in (regions(rows), regions(rows).to("meta"))
        )
        assert known <= unknown


# --- non-maximum suppression ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "comparisons"), [(0, 0), (1, 0), (2, 1), (5, 3), (8, 3), (9, 4)])
def test_suppression(count, comparisons):
    """Non-maximum suppression costs FLOPs for each box, each pair of boxes, and a sort."""
    # 3 for the area of each box, 13 for the overlap of each pair, ⌈log2 n⌉ comparisons for each of n scores
    pairs = sum(1 for one in range(count) for _ in range(one))
    args = (torch.zeros(count, 4), torch.zeros(count), 0.5)
    assert cost(ops.nms, args, torch.zeros(0)) == Cost(0, count * (3 + comparisons) + 13 * pairs)


def test_suppression_measured():
    """Non-maximum suppression is counted on data. Without data, an error is raised."""
    corners = torch.arange(10.0)[:, None].expand(10, 4) * 3 + torch.tensor([0.0, 0.0, 2.0, 2.0])
    result = measure(lambda boxes, scores: ops.nms(boxes, scores, 0.5), (corners, torch.rand(10)))
    assert (result.other_flops, result.execution) == (10 * (3 + 4) + 13 * 45, "real")
    assert not result.unknown_operators
    with pytest.raises(Exception, match=r"torchvision\.nms"):
        measure(lambda boxes, scores: ops.nms(boxes, scores, 0.5), (corners.to("meta"), torch.rand(10, device="meta")))
