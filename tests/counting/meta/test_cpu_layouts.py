"""If a meta kernel gives another layout than the CPU, a shape rule gives the CPU's layout."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its name everywhere
from torch.utils._python_dispatch import TorchDispatchMode
from zoo import both, metadata, on_shapes

from pytest_flopsbudget.counting.meta import shape_rules
from pytest_flopsbudget.counting.operators.info import operator_info
from pytest_flopsbudget.counting.run import Run
from pytest_flopsbudget.counting.tensors.metadata import to_meta


def in_order(tensor):
    return tensor


def channels_last(tensor):
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


def cropped(tensor):
    return torch.cat([tensor, tensor], -1)[..., : tensor.shape[-1]]


def some_channels(tensor):
    return torch.cat([tensor, tensor], 1)[:, : tensor.shape[1]]


def batch_inside(tensor):
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


def spread(tensor):
    return tensor[:1].expand(tensor.shape)


LAYOUTS = (in_order, channels_last, cropped, some_channels, batch_inside, spread)


class Compare(TorchDispatchMode):
    """A dispatch mode that checks that each shape rule gives the metadata of the operator's output on the CPU."""

    def __init__(self):
        super().__init__()
        self.compared = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        info = operator_info(func)
        if info.facets.corrected_shape or info.name in {"aten.convolution_backward", "aten.threshold_backward"}:
            on_meta = to_meta(args)
            for answer in (shape_rules.infer_output, shape_rules.infer_corrected_output):
                worked_out = answer(info, on_meta, kwargs)
                if worked_out is not None:
                    self.compared.add(info.name)
                    assert metadata_or_none(worked_out) == metadata_or_none(output)
        return output


def metadata_or_none(output):
    if isinstance(output, (tuple, list)):
        return [None if item is None else metadata(item) for item in output]
    return metadata(output)


def run(function, inputs, gradient=in_order):
    compare = Compare()
    with compare:
        output = function(inputs)
        if output.requires_grad:
            output.backward(gradient(torch.ones_like(output, memory_format=torch.contiguous_format)))
    return compare.compared


CONVOLUTIONS = {
    "3": (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 8, 8)),
    "1": (nn.Conv2d(4, 6, 1), (2, 4, 8, 8)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4), (2, 4, 8, 8)),
    "grouped": (nn.Conv2d(4, 4, 3, groups=2, bias=False), (2, 4, 8, 8)),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=2), (1, 4, 8, 8)),
    "patches": (nn.Conv2d(4, 6, 4, stride=4), (1, 4, 8, 8)),
    "one channel": (nn.Conv2d(1, 6, 3), (2, 1, 8, 8)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), (2, 4, 8, 8)),
    "transposed, grouped": (nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2, padding=1), (1, 4, 8, 8)),
    "double": (nn.Conv2d(4, 6, 3, dtype=torch.float64), (2, 4, 8, 8)),
    "half": (nn.Conv2d(4, 6, 3, dtype=torch.bfloat16), (2, 4, 8, 8)),
}


@pytest.mark.parametrize("lay_out", LAYOUTS)
@pytest.mark.parametrize("of_weight", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(("module", "shape"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions(module, shape, of_weight, lay_out):
    module = module.to(memory_format=of_weight)
    inputs = lay_out(torch.randn(shape, dtype=module.weight.dtype)).detach().requires_grad_()
    compared = run(module, inputs)
    if of_weight is torch.channels_last:
        assert "aten.convolution" in compared


NORMS = {
    "vectors": (nn.BatchNorm1d(4), (3, 4)),
    "sequences": (nn.BatchNorm1d(4), (3, 4, 5)),
    "images": (nn.BatchNorm2d(4), (3, 4, 5, 6)),
    "one image": (nn.BatchNorm2d(4), (1, 4, 5, 6)),
    "no statistics": (nn.BatchNorm2d(4, track_running_stats=False), (3, 4, 5, 6)),
    "no parameters": (nn.BatchNorm2d(4, affine=False), (3, 4, 5, 6)),
    "volumes": (nn.BatchNorm3d(4), (2, 4, 3, 5, 6)),
    "instances": (nn.InstanceNorm2d(4, affine=True), (3, 4, 5, 6)),
}


@pytest.mark.parametrize("lay_out", LAYOUTS)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("module", "shape"), NORMS.values(), ids=NORMS)
def test_batch_norms(module, shape, train, lay_out):
    inputs = lay_out(torch.randn(shape)).detach().requires_grad_()
    compared = run(module.train(train), inputs)
    assert compared & {"aten.native_batch_norm", "aten._native_batch_norm_legit"}
    assert "aten.native_batch_norm_backward" in compared


@pytest.mark.parametrize("asked", [True, False])
def test_batch_norm_of_an_input_without_gradient(asked):
    module = nn.BatchNorm2d(4)
    module.weight.requires_grad_(asked)
    assert "aten.native_batch_norm_backward" in run(module, torch.randn(2, 4, 5, 5))


FUNCTIONS = {
    "layer norm": (nn.LayerNorm(6), "aten.native_layer_norm_backward"),
    "log-softmax": (nn.LogSoftmax(1), "aten._log_softmax_backward_data"),
    "mean squares": (lambda x: F.mse_loss(x, channels_last(torch.ones(3, 4, 5, 6))), "aten.mse_loss_backward"),
    "smooth": (lambda x: F.smooth_l1_loss(x, torch.ones(3, 4, 5, 6)), "aten.smooth_l1_loss_backward"),
    "huber": (lambda x: F.huber_loss(x, torch.ones(3, 4, 5, 6)), "aten.huber_loss_backward"),
    "relu": (nn.ReLU(), "aten.threshold_backward"),
}


@pytest.mark.parametrize("of_gradient", [in_order, channels_last, spread])
@pytest.mark.parametrize("lay_out", LAYOUTS)
@pytest.mark.parametrize(("function", "operator"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_gradients(function, operator, lay_out, of_gradient):
    inputs = lay_out(torch.randn(3, 4, 5, 6)).detach().requires_grad_()
    gradient = of_gradient if function(inputs).ndim else in_order
    assert operator in run(function, inputs, gradient)


LOSSES = {
    "mean squares": (F.mse_loss, "aten.mse_loss"),
    "smooth": (F.smooth_l1_loss, "aten.smooth_l1_loss"),
    "entropy": (F.binary_cross_entropy, "aten.binary_cross_entropy"),
    "weighted entropy": (lambda x, y: F.binary_cross_entropy(x, y, y), "aten.binary_cross_entropy"),
    "soft margin": (F.soft_margin_loss, "aten.soft_margin_loss"),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("function", "operator"), LOSSES.values(), ids=LOSSES)
def test_losses_stay_where_their_elements_were(function, operator, reduction):
    """The storage of a loss has room for one loss per element of the input, even if the loss is reduced."""
    x = torch.rand(4, 5)

    def loss(x, y):
        output = function(x, y) if function.__name__ == "<lambda>" else function(x, y, reduction=reduction)
        assert output.untyped_storage().nbytes() == 20 * 4
        return output

    for _ in range(2):
        assert operator in both(loss, (x, x)).operators


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"include_last_offset": True}, {"padding_idx": 1}])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("frozen", [False, True])
def test_bags_of_embeddings(mode, options, dtype, frozen):
    model = nn.EmbeddingBag(10, 4, mode=mode, dtype=dtype, **options).requires_grad_(not frozen)
    inputs = (torch.tensor([1, 2, 4, 5, 4, 3]), torch.tensor([0, 2, 3]))
    run_both = Compare()
    with run_both:
        model(*inputs)
    assert run_both.compared == {"aten._embedding_bag_forward_only" if frozen else "aten._embedding_bag"}


HALF = {
    "layer norm": lambda **options: nn.LayerNorm(6, **options),
    "without parameters": lambda **_: nn.LayerNorm(6, elementwise_affine=False),
    "group norm": lambda **options: nn.GroupNorm(2, 4, **options),
    "batch norm": lambda **options: nn.BatchNorm2d(4, **options),
    "instance norm": lambda **options: nn.InstanceNorm2d(4, affine=True, **options),
}


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm", HALF.values(), ids=HALF)
def test_norms_in_half_precision(norm, dtype, train, backward):
    inputs = torch.randn(3, 4, 5, 6, dtype=torch.bfloat16, requires_grad=True)
    both(norm(dtype=dtype).train(train), inputs, backward=backward)


@pytest.mark.parametrize("reuse_answers", [True, False])
def test_channels_stay_innermost(reuse_answers):
    """If the input is channels last, the output of a convolution is channels last."""

    def model(inputs):
        output = F.conv2d(inputs, torch.ones(6, 4, 3, 3, device=inputs.device))
        assert output.stride() == (6 * 6 * 6, 1, 6 * 6, 6)
        return output

    on_shapes(model, channels_last(torch.randn(2, 4, 8, 8)), reuse_answers=reuse_answers)


def storages(output):
    return [item.untyped_storage().nbytes() for item in (output if isinstance(output, tuple) else (output,))]


UNFOLDED = [
    # shape, kernel, dilation, padding, stride
    ((2, 3, 5, 5), (2, 2), (1, 1), (0, 0), (2, 2)),
    ((3, 5, 7), (2, 2), (1, 1), (0, 0), (4, 4)),
    ((2, 3, 5, 5), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((1, 2, 9, 8), (3, 2), (2, 3), (1, 0), (3, 2)),
]


class TestRoomInStorages:
    """If a kernel shrinks its output, the storage keeps its size, and the shape rule gives this size."""

    @staticmethod
    def check(operator, *args):
        expected = operator(*args)
        found = shape_rules.infer_corrected_output(operator_info(operator), to_meta(args), {})
        assert storages(found) == storages(expected)
        assert metadata(found) == metadata(expected)

    @pytest.mark.parametrize("case", UNFOLDED, ids=str)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
    def test_unfold(self, case, dtype):
        shape, *options = case
        self.check(torch.ops.aten.im2col.default, torch.ones(shape, dtype=dtype), *options)

    @pytest.mark.parametrize("case", UNFOLDED, ids=str)
    def test_fold(self, case):
        shape, *options = case
        columns = torch.ops.aten.im2col(torch.ones(shape), *options)
        self.check(torch.ops.aten.col2im.default, columns.clone(), shape[-2:], *options)

    @pytest.mark.parametrize("mode", [0, 1, 2])
    @pytest.mark.parametrize("padding", [-1, 0])
    @pytest.mark.parametrize("ends", [True, False])
    def test_bags(self, mode, padding, ends):
        offsets = torch.tensor([0, 3, 6] if ends else [0, 3])
        args = (torch.ones(5, 5), torch.zeros(6, dtype=torch.int64), offsets, False, mode, False, None, ends, padding)
        for operator in (torch.ops.aten._embedding_bag, torch.ops.aten._embedding_bag_forward_only):
            self.check(operator.default, *args)

    @pytest.mark.parametrize(
        "function",
        [torch.unique_consecutive, lambda x: torch.unique(x, dim=0), lambda x: torch.unique(x, sorted=False)],
    )
    def test_distinct_values(self, function):
        values = torch.tensor([3, 3, 3, 1, 1, 2])
        run = Run(function, (values,), {}, False)
        peaks = {run.complexity((way,)).peak_memory for way in ("integers", "data")}
        assert len(peaks) == 1


def test_known_values_do_not_keep_memory_alive():
    def chain():
        values = torch.linspace(0, 1, 100, device="cpu")
        for _ in range(20):
            values = values * 2 + 1
        return values

    assert both(chain).peak_memory == 3 * 100 * 4
