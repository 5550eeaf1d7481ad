"""Biases, factors and fused activations cost `other_flops` in matrix products and convolutions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from zoo import both, for_real

from pytest_flopsbudget.counting.operators import accounting
from pytest_flopsbudget.counting.operators.info import operator_info


def cost(operator, args, output):
    """Return the cost of one call of an operator that the CPU cannot run."""
    return accounting.cost_of(operator_info(operator), args, {}, output)


few = settings(max_examples=25)
SIZE = st.integers(1, 4)
#: A factor, and the number of operations for scaling one element by it.
FACTOR = st.sampled_from([(1, 0), (1.0, 0), (2, 1), (0.5, 1), (-1, 1)])


class TestLinear:
    @few
    @given(batch=st.lists(SIZE, max_size=3), features=SIZE, outputs=SIZE, bias=st.booleans())
    def test_forward(self, batch, features, outputs, bias):
        """A bias costs one FLOP for each element of the output."""
        counted = both(nn.Linear(features, outputs, bias=bias), torch.ones(*batch, features))
        count = math.prod(batch) * outputs
        assert counted.other_flops == (count if bias else 0)
        assert counted.flops == 2 * count * features
        assert counted.total_flops == counted.flops + counted.other_flops

    @few
    @given(batch=st.lists(SIZE, min_size=1, max_size=3), features=SIZE, outputs=SIZE, bias=st.booleans())
    def test_backward(self, batch, features, outputs, bias):
        """The gradient of a bias costs the additions of a sum over the batch."""
        model = nn.Linear(features, outputs, bias=bias)
        inputs = torch.ones(*batch, features)
        gradient = (math.prod(batch) - 1) * outputs
        added = both(model, inputs, backward=True).other_flops - both(model, inputs).other_flops
        assert added == (gradient if bias else 0)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
    def test_any_mode(self, mode):
        """A linear layer costs the same in each gradient mode, although PyTorch runs different operators."""
        with mode():
            assert both(nn.Linear(4, 5), torch.ones(2, 3, 4)).other_flops == 2 * 3 * 5

    def test_as_one_operator(self):
        """If one operator computes the backward pass of a linear layer, all three gradients are counted."""
        operator = torch.ops.aten.linear_backward
        inputs, gradient, weight = (torch.ones(shape, device="meta") for shape in ((2, 3, 4), (2, 3, 5), (5, 4)))
        output = inputs, weight, weight[:, 0]
        measured = cost(operator.default, (inputs, gradient, weight, [True, True, True]), output)
        assert measured == (2 * 2 * (2 * 3 * 5 * 4), (2 * 3 - 1) * 5)
        assert cost(operator.default, (inputs, gradient, weight, [True, True, False]), output).other_flops == 0

    def test_complex_numbers(self):
        assert both(nn.Linear(4, 5, dtype=torch.complex64), torch.ones(3, 4, dtype=torch.complex64)).other_flops == 30


SUMS = {
    torch.addmm: ((2, 5), (2, 3), (3, 5)),
    torch.baddbmm: ((4, 2, 5), (4, 2, 3), (4, 3, 5)),
    torch.addbmm: ((2, 5), (4, 2, 3), (4, 3, 5)),
    torch.addmv: ((2,), (2, 3), (3,)),
}


class TestMatrices:
    """Matrix products, and operators that compute beta · input + alpha · product."""

    @pytest.mark.parametrize("operator", SUMS)
    @few
    @given(alpha=FACTOR, beta=FACTOR)
    def test_factors(self, operator, alpha, beta):
        """Each output element costs one sum, and one product for each of ``alpha`` and ``beta`` that is not 1."""
        operands = tuple(torch.ones(shape) for shape in SUMS[operator])
        counted = both(lambda *args: operator(*args, alpha=alpha[0], beta=beta[0]), operands)
        assert counted.other_flops == (1 + alpha[1] + beta[1]) * operands[0].numel()
        assert counted.flops == both(operator, operands).flops > 0

    @pytest.mark.parametrize("operator", SUMS)
    def test_without_input(self, operator):
        """If ``beta`` is 0, adding the input costs nothing."""
        operands = tuple(torch.ones(shape) for shape in SUMS[operator])
        assert both(lambda *args: operator(*args, beta=0), operands).other_flops == 0
        assert both(lambda *args: operator(*args, beta=0, alpha=2), operands).other_flops == operands[0].numel()

    @pytest.mark.parametrize("operator", SUMS)
    def test_in_place(self, operator):
        operands = tuple(torch.ones(shape) for shape in SUMS[operator])

        def in_place(given, *factors):
            return getattr(given.clone(), f"{operator.__name__}_")(*factors)

        assert both(in_place, operands).other_flops == operands[0].numel()

    def test_of_other_numbers(self):
        # Each of 10 elements costs 2 FLOPs for a complex sum, and 2 for the product with the real number alpha.
        for dtype, count in ((torch.int64, 0), (torch.complex64, 4 * 10)):
            operands = tuple(torch.ones(shape, dtype=dtype) for shape in SUMS[torch.addmm])
            assert both(lambda *args: torch.addmm(*args, alpha=2), operands).other_flops == count

    @pytest.mark.parametrize(
        ("operator", "shapes"), [(torch.mm, ((2, 3), (3, 5))), (torch.bmm, ((4, 2, 3), (4, 3, 5)))]
    )
    def test_products_alone(self, operator, shapes):
        """A plain matrix product has no `other_flops`, because `flops` counts all of its work."""
        assert both(operator, tuple(map(torch.ones, shapes))).other_flops == 0

    @pytest.mark.parametrize(("gelu", "each"), [(False, 1), (True, 9)])
    def test_activations_on_the_way(self, gelu, each):
        # ``each``: 1 FLOP for ReLU, or 9 FLOPs for GELU with tanh. The bias costs 1 more.
        operands = tuple(torch.ones(shape) for shape in SUMS[torch.addmm])
        counted = both(lambda *args: torch.ops.aten._addmm_activation(*args, use_gelu=gelu), operands)
        assert counted.other_flops == (1 + each) * 10


CONVOLUTIONS = {
    "1d": (nn.Conv1d, (2, 4, 7), {}),
    "2d": (nn.Conv2d, (2, 4, 7, 6), {}),
    "3d": (nn.Conv3d, (2, 4, 5, 4, 4), {}),
    "grouped": (nn.Conv2d, (2, 4, 7, 6), {"groups": 2}),
    "strided": (nn.Conv2d, (2, 4, 7, 6), {"stride": 2, "padding": 1}),
    "transposed": (nn.ConvTranspose2d, (2, 4, 5, 3), {"stride": 2}),
    "unbatched": (nn.Conv2d, (4, 7, 6), {}),
}


class TestConvolutions:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("case", CONVOLUTIONS)
    def test_bias(self, case, bias):
        # The gradient of the bias is a sum over the elements of each of 6 channels.
        kind, shape, options = CONVOLUTIONS[case]
        model, inputs = kind(4, 6, 3, bias=bias, **options), torch.ones(shape)
        count = model(inputs).numel()
        assert both(model, inputs).other_flops == (count if bias else 0)
        assert both(model, inputs, backward=True).other_flops == (count + count - 6 if bias else 0)

    def test_fused_on_other_devices(self):
        """If a kernel fuses a convolution with a sum or a ReLU, each fused operation is counted."""
        outputs = torch.ones(1, 6, 4, 4, device="meta")
        image, weight, bias = (torch.ones(s, device="meta") for s in ((1, 3, 6, 6), (6, 3, 3, 3), (6,)))
        rest = [1, 1], [0, 0], [1, 1], 1
        relu = torch.ops.aten.cudnn_convolution_relu.default
        sum_and_relu = torch.ops.aten.cudnn_convolution_add_relu.default

        def work(operator, *args):
            return cost(operator, args, outputs).other_flops

        assert work(relu, image, weight, bias, *rest) == 2 * 96
        assert work(relu, image, weight, None, *rest) == 96
        assert work(sum_and_relu, image, weight, outputs, None, bias, *rest) == 3 * 96
        assert work(sum_and_relu, image, weight, outputs, 0.5, bias, *rest) == 4 * 96

    @pytest.mark.parametrize("mask", [(True, True, True), (True, False, True), (False, True, False)])
    def test_gradients_asked_by_a_mask(self, mask):
        def backward(gradient, image, weight):
            operator = torch.ops.aten._slow_conv2d_backward.output_mask
            return operator(gradient, image, weight, (3, 2), (1, 1), (0, 0), mask)

        result = for_real(backward, (torch.ones(2, 4, 4, 4), torch.ones(2, 3, 6, 5), torch.ones(4, 3, 3, 2)))
        assert result.flops == sum(mask[:2]) * 2 * (2 * 4 * 4 * 4) * (3 * 3 * 2)
        assert result.other_flops == (2 * 4 * 4 * 4 - 4 if mask[2] else 0)

    def test_gradients_written_to_tensors(self):
        def backward(gradient, image, weight, *gradients):
            operator = torch.ops.aten._slow_conv2d_backward.grad_input
            names = dict(zip(("grad_input", "grad_weight", "grad_bias"), gradients, strict=True))
            return operator(gradient, image, weight, (3, 2), (1, 1), (0, 0), **names)

        gradient, image, weight = torch.ones(2, 4, 4, 4), torch.ones(2, 3, 6, 5), torch.ones(4, 3, 3, 2)
        written = torch.empty_like(image), torch.empty_like(weight), torch.empty(4)
        result = for_real(backward, (gradient, image, weight, *written))
        assert result.flops == 2 * 2 * (2 * 4 * 4 * 4) * (3 * 3 * 2)
        assert result.other_flops == 2 * 4 * 4 * 4 - 4

    def test_gradients_on_a_mac(self):
        gradient, image, weight = (torch.ones(s, device="meta") for s in ((2, 4, 4, 4), (2, 3, 6, 5), (4, 3, 3, 2)))
        for mask in ((True, True, True), (False, True, False)):
            args = (image, gradient, weight, (0, 0), (1, 1), (1, 1), 1, mask)
            found = cost(torch.ops.aten.mps_convolution_backward.default, args, (image, weight, weight[:, 0, 0, 0]))
            assert found.flops == sum(mask[:2]) * 2 * 128 * 18
            assert found.other_flops == (128 - 4 if mask[2] else 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
class TestQuantized:
    def test_static_layers(self):
        # 3 images with 6 channels of 2 · 2 pixels. The linear layer has no bias.
        model = nn.Sequential(
            torch.ao.quantization.QuantStub(),
            nn.Conv2d(4, 6, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24, 5, bias=False),
        ).eval()
        model = torch.ao.quantization.fuse_modules(model, ["1", "2"])
        model.qconfig = torch.ao.quantization.get_default_qconfig(torch.backends.quantized.engine)
        prepared = torch.ao.quantization.prepare(model)
        prepared(torch.randn(1, 4, 4, 4))
        counted = for_real(torch.ao.quantization.convert(prepared), (torch.randn(3, 4, 4, 4),))
        of_layers = [counted.modules[name].metrics["other_flops"] for name in ("1", "4")]
        assert of_layers == [2 * 3 * 6 * 4, 0]

    @pytest.mark.parametrize("bias", [True, False])
    def test_dynamic_linear(self, bias):
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 4, bias=bias)), {nn.Linear})
        assert for_real(model, (torch.randn(3, 8),)).other_flops == (12 if bias else 0)
