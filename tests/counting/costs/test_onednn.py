"""Fused operators of oneDNN, MKL and XNNPACK cost as much as the unfused operators."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from zoo import both, for_real

from pytest_flopsbudget.counting.costs import REGISTRY, Call
from pytest_flopsbudget.counting.costs.activations import products_outputs
from pytest_flopsbudget.counting.measure import measure

pytestmark = [
    pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]

#: oneDNN's name, numbers and algorithm of an activation → operations for each element.
ACTIVATIONS = [
    ("none", [], "", 0),
    ("relu", [], "", 1),
    ("tanh", [], "", 1),
    ("sigmoid", [], "", 4),  # 1 / (1 + exp(-x))
    ("swish", [], "", 5),  # x · sigmoid(x)
    ("hardswish", [], "", 5),  # x · min(max(x + 3, 0), 6) / 6
    ("hardsigmoid", [], "", 4),
    ("leaky_relu", [0.1], "", 2),  # a comparison, and a product with the slope
    ("hardtanh", [0.0, 6.0], "", 2),
    ("gelu", [], "none", 5),  # x · (1 + erf(x / √2)) / 2
    ("gelu", [], "tanh", 9),  # x · (1 + tanh(√(2/π) · (x + c · x · x · x))) / 2
]


def _only(names):
    """Return the cases of ``ACTIVATIONS`` whose name is in ``names``."""
    return [case for case in ACTIVATIONS if case[0] in names.split()]


def known(model, *args):
    """Return (flops, other_flops) of a model, and check that no operator is unknown."""
    result = for_real(model, args)
    assert not result.unknown_operators
    return result.flops, result.other_flops


class TestConvolution:
    """A convolution of 2 images from 4 to 8 channels, in 2 groups."""

    # Each output is a sum of 2 · 9 products.

    outputs = 2 * 8 * 36
    flops = 2 * outputs * 2 * 9
    settings = ([1, 1], [1, 1], [1, 1], 2)

    def operands(self):
        return torch.randn(2, 4, 6, 6), torch.randn(8, 2, 3, 3), torch.randn(8)

    @pytest.mark.parametrize(("name", "numbers", "algorithm", "expected"), ACTIVATIONS)
    def test_activations(self, name, numbers, algorithm, expected):
        """Each output costs a sum with the bias, and the operations of the fused activation."""
        operator = torch.ops.mkldnn._convolution_pointwise
        measured = known(lambda x, w, b: operator(x, w, b, *self.settings, name, numbers, algorithm), *self.operands())
        assert measured == (self.flops, (1 + expected) * self.outputs)

    def test_reordered_weight(self):
        image, weight, _ = self.operands()
        reordered = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.settings, list(image.shape))
        operator = torch.ops.mkldnn._convolution_pointwise
        assert known(lambda x: operator(x, reordered, None, *self.settings, "none", [], ""), image) == (self.flops, 0)

    @pytest.mark.parametrize(("activation", "expected"), [(None, 0), ("relu", 1)])
    def test_second_operand(self, activation, expected):
        """A fused sum with a second operand costs 1 FLOP for each output."""
        # Each output costs 1 FLOP more for the bias, and 1 FLOP more for a fused ReLU.
        image, *rest = self.operands()
        other = torch.randn(2, 8, 6, 6)
        fused = "add", 1.0, activation, [], ""
        outside = torch.ops.mkldnn._convolution_pointwise.binary
        measured = known(lambda x, y, *rest: outside(x, y, *rest, *self.settings, *fused), image, other, *rest)
        assert measured == (self.flops, (2 + expected) * self.outputs)
        inplace = torch.ops.mkldnn._convolution_pointwise_.binary
        measured = known(lambda x, y, *rest: inplace(y, x, *rest, *self.settings, *fused), image, other, *rest)
        assert measured == (self.flops, (2 + expected) * self.outputs)

    @pytest.mark.parametrize("reorder", [True, False])
    def test_transposed(self, reorder):
        # 2 · 4 · 36 inputs, each with 3 channels of 9 weights. ReLU costs 1 FLOP for each of 2 · 3 · 11 · 11 outputs.
        image, weight = torch.randn(2, 4, 6, 6), torch.randn(4, 3, 3, 3)
        settings = [1, 1], [0, 0], [2, 2], [1, 1], 1
        if reorder:
            weight = torch.ops.mkldnn._reorder_convolution_transpose_weight(weight, *settings, list(image.shape))
        operator = torch.ops.mkldnn._convolution_transpose_pointwise
        measured = known(lambda x: operator(x, weight, None, *settings, "relu", [], ""), image)
        assert measured == (2 * (2 * 4 * 36) * 3 * 9, 2 * 3 * 11 * 11)

    def test_prepacked(self):
        image, weight, bias = self.operands()
        pack = torch.ops.mkldnn_prepacked.conv2d_prepack
        packed = pack(weight, bias, *self.settings, list(image.shape), "none")
        run = torch.ops.mkldnn_prepacked.conv2d_run
        assert known(lambda x: run(x, packed), image) == (self.flops, self.outputs)
        assert measure(lambda x: run(x, packed), image).activations == self.outputs

    def integers(self):
        weight = torch.randint(-5, 5, (8, 2, 3, 3), dtype=torch.int8)
        scales, zeros = torch.ones(8), torch.zeros(8, dtype=torch.int32)
        shape = [2, 4, 6, 6]
        packed = torch.ops.onednn.qconv_prepack(weight, scales, 0.1, 0, *self.settings, shape)
        return torch.randint(0, 9, shape, dtype=torch.uint8), (packed, scales, zeros)

    @pytest.mark.parametrize(("name", "numbers", "algorithm", "expected"), _only("none relu swish hardswish hardtanh"))
    def test_integers(self, name, numbers, algorithm, expected):
        image, weights = self.integers()
        fused = 1.0, 0, torch.float32, name, numbers, algorithm
        operator = torch.ops.onednn.qconv2d_pointwise
        measured = known(lambda x, b: operator(x, 0.1, 0, *weights, b, *self.settings, *fused), image, torch.randn(8))
        assert measured == (self.flops, (1 + expected) * self.outputs)

    def test_integers_and_a_sum(self):
        # bias, sum and ReLU
        image, weights = self.integers()
        total = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last)
        fused = 1.0, 0, torch.float32, 1.0, 0, "sum", 1.0, "relu", [], ""
        operator = torch.ops.onednn.qconv2d_pointwise.binary
        measured = known(
            lambda x, y, b: operator(x, 0.1, 0, *weights, y, b, *self.settings, *fused), image, total, torch.randn(8)
        )
        assert measured == (self.flops, 3 * self.outputs)


class TestLinear:
    """A linear layer from 8 to 3 features, on 5 rows."""

    flops = 2 * 5 * 8 * 3

    def operands(self):
        return torch.randn(5, 8), torch.randn(3, 8), torch.randn(3)

    @pytest.mark.parametrize(("name", "numbers", "algorithm", "expected"), ACTIVATIONS)
    def test_activations(self, name, numbers, algorithm, expected):
        operator = torch.ops.mkldnn._linear_pointwise
        measured = known(lambda x, w, b: operator(x, w, b, name, numbers, algorithm), *self.operands())
        assert measured == (self.flops, (1 + expected) * 15)

    @pytest.mark.parametrize("name", ["add", "mul", "sub", "div"])
    def test_second_operand(self, name):
        # The bias costs 1 FLOP more for each output.
        inputs, *rest = self.operands()
        operator = torch.ops.mkldnn._linear_pointwise.binary
        measured = known(lambda x, y, w, b: operator(x, y, w, b, name), inputs, torch.randn(5, 3), *rest)
        assert measured == (self.flops, 2 * 15)

    def test_mkl(self):
        if not torch.backends.mkl.is_available():
            pytest.skip("PyTorch was built without MKL")
        inputs, weight, bias = self.operands()
        packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, 5)
        measured = known(lambda x, w, b: torch.ops.mkl._mkl_linear(x, packed, w, b, 5), inputs, weight, bias)
        assert measured == (self.flops, 15)

    def integers(self):
        packed = torch.ops.onednn.qlinear_prepack(torch.randint(-5, 5, (3, 8), dtype=torch.int8), None)
        inputs = torch.randint(0, 9, (5, 8), dtype=torch.uint8)
        return inputs, (packed, torch.ones(3), torch.zeros(3, dtype=torch.int32))

    @pytest.mark.parametrize(
        ("name", "numbers", "algorithm", "expected"),
        _only("none relu tanh swish hardswish leaky_relu hardtanh gelu"),
    )
    def test_integers(self, name, numbers, algorithm, expected):
        inputs, weights = self.integers()
        fused = 1.0, 0, torch.float32, name, numbers, algorithm
        operator = torch.ops.onednn.qlinear_pointwise
        measured = known(lambda x, b: operator(x, 0.1, 0, *weights, b, *fused), inputs, torch.randn(3))
        assert measured == (self.flops, (1 + expected) * 15)

    @pytest.mark.parametrize(("name", "expected"), [("add", 1), ("none", 0)])
    def test_integers_and_a_sum(self, name, expected):
        # Bias and ReLU cost 2 FLOPs more for each output.
        inputs, weights = self.integers()
        fused = 1.0, 0, torch.float32, 1.0, 0, name, 1.0, "relu", [], ""
        operator = torch.ops.onednn.qlinear_pointwise.binary
        other = torch.randn(5, 3) if expected else None
        measured = known(lambda x, y, b: operator(x, 0.1, 0, *weights, y, b, *fused), inputs, other, torch.randn(3))
        assert measured == (self.flops, (2 + expected) * 15)

    @pytest.mark.parametrize(("name", "expected"), [("linear_dynamic_fp16", 1), ("linear_relu_dynamic_fp16", 2)])
    def test_half_precision(self, name, expected):
        inputs, weight, bias = self.operands()
        packed = torch.ops.onednn.linear_prepack_fp16(weight, [5, 8])
        operator = getattr(torch.ops.onednn, name)
        assert known(lambda x, b: operator(x, packed, b), inputs, bias) == (self.flops, expected * 15)


newer = pytest.mark.skipif(not hasattr(torch.ops.onednn, "qadd"), reason="newer versions of PyTorch have these")


@newer
@pytest.mark.parametrize(("name", "expected"), [("qadd", 1), ("qadd_relu", 2), ("qmul", 1)])
def test_integer_arithmetic(name, expected):
    """Operations on integers that have a scale are counted, because the integers stand for real numbers."""
    operand = torch.randint(0, 9, (5, 8), dtype=torch.uint8)
    operator = getattr(torch.ops.onednn, name).tensor
    measured = known(lambda x: operator(x, 0.1, 0, x, 0.1, 0, 0.1, 0, torch.uint8), operand)
    assert measured == (0, expected * 40)


@newer
def test_integer_batch_norm():
    # a scale and a shift for each element
    operands = torch.randint(0, 9, (2, 4, 6, 6), dtype=torch.uint8), torch.ones(4)
    operator = torch.ops.onednn.qbatch_norm2d
    measured = known(lambda x, w: operator(x, 0.1, 0, w, w, w, w, 1e-5, 0.1, 0, torch.uint8), *operands)
    assert measured == (0, 2 * 2 * 4 * 36)


class TestPackedForMobile:
    """The operators ``prepacked::…`` of XNNPACK, called with an imitation of packed weights."""

    class Context:
        def __init__(self, *state):
            self.state = state

        def __getstate__(self):
            return (self.state, "__torch__.torch.classes.xnnpack.Context")

    def cost(self, name, inputs, output, *state):
        call = Call.by_names(f"prepacked.{name}", {"X": inputs, "W_prepack": self.Context(*state)})
        call.output = output
        facets = REGISTRY.facets(call.name)
        return facets.flops(call), facets.other(call)

    @pytest.mark.parametrize(
        ("name", "output"),
        [
            ("linear_clamp_run", (5, 3)),
            ("conv2d_clamp_run", (2, 8, 6, 6)),
            ("conv2d_transpose_clamp_run", (2, 3, 11, 11)),
        ],
    )
    def test_activations(self, name, output):
        """Each output element of a packed layer is one activation."""
        call = Call.by_names(f"prepacked.{name}", {"X": torch.ones(1), "W_prepack": self.Context()})
        call.output = torch.ones(output)
        assert products_outputs(call) == math.prod(output)

    def test_linear(self):
        """A packed linear layer costs its products, the bias, and a comparison with each of two bounds."""
        cost = self.cost("linear_clamp_run", torch.ones(5, 8), torch.ones(5, 3), torch.ones(3, 8), torch.ones(3), 0, 6)
        assert cost == (2 * 5 * 8 * 3, 3 * 15)

    def test_convolution(self):
        # 2 · 9 products for each of 2 · 8 · 36 outputs
        settings = [1, 1], [1, 1], [1, 1], 2, 0, None
        images = torch.ones(2, 4, 6, 6), torch.ones(2, 8, 6, 6)
        cost = self.cost("conv2d_clamp_run", *images, torch.ones(8, 2, 3, 3), None, *settings)
        assert cost == (2 * (2 * 8 * 36) * 2 * 9, 2 * 8 * 36)

    def test_transposed_convolution(self):
        # 2 · 4 · 36 inputs, each with 3 channels of 9 weights
        settings = [2, 2], [1, 1], [0, 0], [1, 1], 1, None, None
        images = torch.ones(2, 4, 6, 6), torch.ones(2, 3, 11, 11)
        cost = self.cost("conv2d_transpose_clamp_run", *images, torch.ones(4, 3, 3, 3), torch.ones(3), *settings)
        assert cost == (2 * (2 * 4 * 36) * 3 * 9, 2 * 3 * 121)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 5)

    def forward(self, image):
        features = torch.relu(self.norm(self.convolution(image)))
        return self.head(self.mean(features).reshape(image.shape[0], 8))


class TestNets:
    """Whole networks, on 2 images of 8 · 8 pixels."""

    features = 2 * 8 * 64
    flops = 2 * features * 3 * 9 + 2 * 2 * 8 * 5
    #: Bias, ReLU and mean of the features, and the bias of the head. (Batch norm is counted apart, in ``norm``.)
    other_flops = 3 * features + 2 * 5
    norm = 2 * features

    def test_float_twin(self):
        result = both(Net().eval(), torch.randn(2, 3, 8, 8))
        assert (result.flops, result.other_flops) == (self.flops, self.other_flops + self.norm)

    def test_to_mkldnn(self):
        """In oneDNN's layout, the network costs as much as in the plain layout."""
        from torch.utils.mkldnn import to_mkldnn  # warns that the module is deprecated

        net = to_mkldnn(Net().eval())
        assert known(net, torch.randn(2, 3, 8, 8).to_mkldnn()) == (self.flops, self.other_flops + self.norm)

    def test_frozen(self):
        """If a network is frozen, its batch norm costs nothing, because it is folded into the convolution."""
        # Freezing folds the batch norm into the convolution.
        net = torch.jit.freeze(torch.jit.script(Net().eval()))
        result = measure(net, torch.randn(2, 3, 8, 8))
        assert not result.unknown_operators
        assert (result.flops, result.other_flops) == (self.flops, self.other_flops)
