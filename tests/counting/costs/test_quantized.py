"""Quantized layers cost as much as the floating-point layers that they replace."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.ao import quantization
from torch.ao.quantization import quantize_fx
from zoo import both, for_real

from pytest_flopsbudget.counting.measure import measure

# PyTorch warns that these interfaces are deprecated, but they still exist
pytestmark = pytest.mark.filterwarnings("ignore")

QUANTIZED = torch.ops.quantized


def known(model, *args):
    """Return (flops, other_flops) of a model, and check that no operator is unknown."""
    result = measure(model, args)
    assert not result.unknown_operators
    return result.flops, result.other_flops


def quint8(tensor, scale=0.1, zero_point=10):
    return torch.quantize_per_tensor(tensor, scale, zero_point, torch.quint8)


def qint8(tensor):
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


@pytest.fixture
def engine(monkeypatch):
    """Return a function that sets the quantization engine until the end of the test."""
    before = torch.backends.quantized.engine

    def choose(name):
        if name not in torch.backends.quantized.supported_engines:
            pytest.skip(f"PyTorch was built without {name}")
        torch.backends.quantized.engine = name

    yield choose
    torch.backends.quantized.engine = before


class TestDynamic:
    """Dynamic quantization, in which each layer quantizes its own input."""

    @pytest.mark.parametrize("dtype", [torch.qint8, torch.float16])
    def test_linear(self, dtype):
        # products, then biases, then ReLU
        model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
        quantized = quantization.quantize_dynamic(model, {nn.Linear}, dtype=dtype)
        assert known(quantized, torch.randn(5, 8)) == (2 * 5 * (8 * 4 + 4 * 3), 5 * (4 + 3) + 5 * 4)

    @pytest.mark.parametrize("dtype", [torch.qint8, torch.float16])
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
    @pytest.mark.parametrize(
        ("kind", "gates", "around"),
        # Operations for each unit. LSTM: 4 sums, 3 sigmoids of 4 each, tanh, f·c + i·g, o·tanh(c). GRU: 3 sums, 2
        # sigmoids of 4 each, tanh, r·n, (h - n)·z + n.
        [(nn.LSTM, 4, 4 + 12 + 1 + 3 + 2), (nn.GRU, 3, 3 + 8 + 1 + 1 + 3)],
    )
    def test_recurrent_layers(self, kind, gates, around, mode, dtype):
        model = nn.Sequential(kind(8, 4, 2, bidirectional=True))
        quantized = quantization.quantize_dynamic(model, {kind}, dtype=dtype)
        with mode():
            measured = known(quantized, torch.randn(6, 2, 8))
        steps = 6 * 2
        products = 2 * gates * 4 * ((8 + 4) + (2 * 4 + 4))
        assert measured == (2 * steps * products, 2 * 2 * steps * 4 * (around + 2 * gates))

    @pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
    def test_packed_sequences(self, kind):
        # 5 + 3 + 2 steps
        model = nn.Sequential(kind(3, 4))
        packed = nn.utils.rnn.pack_padded_sequence(torch.randn(5, 3, 3), torch.tensor([5, 3, 2]))
        gates = 4 if kind is nn.LSTM else 3
        measured = known(quantization.quantize_dynamic(model, {kind}), packed)
        assert measured[0] == 2 * (5 + 3 + 2) * gates * 4 * (3 + 4)

    @pytest.mark.parametrize("batch_first", [True, False])
    def test_as_the_twin(self, batch_first):
        model = nn.Sequential(nn.LSTM(3, 4, 3, batch_first=batch_first))
        with torch.no_grad():
            twin = both(model, torch.randn(5, 2, 3))
        quantized = quantization.quantize_dynamic(model, {nn.LSTM})
        assert known(quantized, torch.randn(5, 2, 3)) == (twin.flops, twin.other_flops)

    @pytest.mark.parametrize(
        ("cell", "gates"), [(nn.LSTMCell(8, 4), 4), (nn.GRUCell(8, 4), 3), (nn.RNNCell(8, 4), 1)], ids=str
    )
    def test_cells(self, cell, gates):
        model = nn.Sequential(cell)
        quantized = quantization.quantize_dynamic(copy.deepcopy(model), {type(cell)})
        flops, other_flops = known(quantized, torch.randn(5, 8))
        assert flops == 2 * 5 * gates * 4 * (8 + 4)
        with torch.no_grad():  # with gradients, in-place operators would copy their input first
            assert other_flops == both(model, torch.randn(5, 8)).other_flops

    def test_cell_with_relu(self):
        model = nn.Sequential(nn.RNNCell(8, 4, nonlinearity="relu"))
        quantized = quantization.quantize_dynamic(copy.deepcopy(model), {nn.RNNCell})
        # Two biases, a sum and ReLU.
        assert known(quantized, torch.randn(5, 8)) == (2 * 5 * 4 * (8 + 4), 5 * 4 * (2 + 1 + 1))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 1)
        self.hardswish = nn.Hardswish()
        self.pool = nn.AvgPool2d(2)
        self.gate = nn.Sigmoid()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 5)

    def forward(self, image):
        features = torch.relu(self.norm(self.first(image)))
        features = self.pool(self.hardswish(torch.relu(self.second(features) + features)))
        return self.head(self.mean(features * self.gate(features)).flatten(1))


#: Number of elements for 2 images of 8 · 8 pixels and 8 channels: in the features, and in the features after pooling.
FEATURES = 2 * 8 * 8 * 8
POOLED = FEATURES // 4
NET_FLOPS = 2 * FEATURES * 3 * 9 + 2 * FEATURES * 8 + 2 * 2 * 8 * 5
#: Other FLOPs. Features: two biases, two ReLUs, a sum, and hardswish (5). Pooling: 4 for each output. After pooling:
#: sigmoid (4), a product, the mean. At the end: the bias of the head.
NET_OTHER_FLOPS = FEATURES * (2 + 2 + 1 + 5) + 4 * POOLED + POOLED * (4 + 1 + 1) + 2 * 5
#: Other FLOPs of the batch norm, if it is not folded into a convolution.
NORM = 2 * FEATURES


@pytest.fixture(scope="module")
def image():
    return torch.randn(2, 3, 8, 8)


class TestStatic:
    """Static quantization of a network with PyTorch's FX graph mode."""

    def test_float_twin(self, image):
        assert known(Net().eval(), image) == (NET_FLOPS, NET_OTHER_FLOPS + NORM)

    def test_quantized(self, image):
        """A quantized network costs as much as the floating-point network without batch norm, plus the conversions."""
        # Quantizing costs 5 for each element, and dequantizing costs 2.
        prepared = quantize_fx.prepare_fx(Net().eval(), quantization.get_default_qconfig_mapping(), (image,))
        prepared(image)
        quantized = quantize_fx.convert_fx(prepared)
        conversions = 5 * (image.numel() + FEATURES + 2 * 8) + 2 * (FEATURES + 2 * 8 + 2 * 5)
        assert known(quantized, image) == (NET_FLOPS, NET_OTHER_FLOPS + conversions)

    def test_reference(self, image):
        """A graph of ``quantized_decomposed`` operators has the matrix products of the floating-point network."""
        prepared = quantize_fx.prepare_fx(Net().eval(), quantization.get_default_qconfig_mapping(), (image,))
        prepared(image)
        flops, other_flops = known(quantize_fx._convert_to_reference_decomposed_fx(prepared), image)
        assert flops == NET_FLOPS
        assert other_flops > NET_OTHER_FLOPS

    def test_training_that_knows_of_it(self, image):
        # Fake quantization adds other FLOPs.
        prepared = quantize_fx.prepare_qat_fx(Net().train(), quantization.get_default_qat_qconfig_mapping(), (image,))
        prepared(image)
        flops, other_flops = known(prepared, image)
        assert flops == NET_FLOPS
        assert other_flops > NET_OTHER_FLOPS + NORM

    def test_observed(self, image):
        prepared = quantize_fx.prepare_fx(Net().eval(), quantization.get_default_qconfig_mapping(), (image,))
        assert known(prepared, image)[0] == NET_FLOPS

    def test_autocast(self, image):
        net = Net().eval()

        def in_bfloat16(image):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return net(image)

        assert known(in_bfloat16, image) == (NET_FLOPS, NET_OTHER_FLOPS + NORM)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.there, self.back = quantization.QuantStub(), quantization.DeQuantStub()
        self.convolution = nn.Conv2d(3, 3, 1)
        self.residual = torch.ao.nn.quantized.FloatFunctional()
        self.elu = nn.ELU()
        self.norm = nn.InstanceNorm2d(3)
        self.up = nn.ConvTranspose2d(3, 2, 2, stride=2)

    def forward(self, image):
        image = self.there(image)
        features = self.residual.add_relu(self.convolution(image), image)
        larger = self.up(self.norm(self.elu(features)))
        return self.back(nn.functional.interpolate(larger, scale_factor=2, mode="bilinear"))


class TestEager:
    """Static quantization of a network in PyTorch's eager mode."""

    features, larger, largest = 2 * 3 * 16, 2 * 2 * 64, 2 * 2 * 256
    flops = 2 * features * 3 + 2 * features * 2 * 4
    #: Other FLOPs. Features: bias, sum, ReLU, ELU (3), instance norm (5). Then the bias of the transposed convolution,
    #: and bilinear upsampling (9).
    other_flops = features * (1 + 1 + 1 + 3 + 5) + larger + 9 * largest

    def test_float_twin(self):
        assert known(Decoder().eval(), torch.randn(2, 3, 4, 4)) == (self.flops, self.other_flops)

    def test_quantized(self):
        """A quantized network costs as much as the floating-point network and two conversions."""
        model, image = Decoder().eval(), torch.randn(2, 3, 4, 4)
        model.qconfig = quantization.default_qconfig
        prepared = quantization.prepare(model)
        prepared(image)
        conversions = 5 * self.features + 2 * self.largest
        assert known(quantization.convert(prepared), image) == (self.flops, self.other_flops + conversions)


#: 2 images with 4 channels of 6 · 6 pixels.
SHAPE = (2, 4, 6, 6)
COUNT = math.prod(SHAPE)


class TestElements:
    @pytest.mark.parametrize(
        ("operator", "arguments", "expected"),
        [
            (QUANTIZED.add_scalar, (2.0,), 1),
            (QUANTIZED.mul_scalar, (2.0,), 1),
            (QUANTIZED.add_scalar_relu, (2.0,), 2),
            (QUANTIZED.mul_scalar_relu, (2.0,), 2),
            (QUANTIZED.celu, (0.1, 3), 3),  # a comparison, exp(x) - 1
            (QUANTIZED.celu, (0.1, 3, 2.0), 5),  # a comparison, alpha · (exp(x / alpha) - 1)
            (QUANTIZED.elu, (0.1, 3), 3),
            (QUANTIZED.elu, (0.1, 3, 2.0), 4),
            (QUANTIZED.clamp, (0.0, 1.0), 2),
            (QUANTIZED.clamp, (0.0,), 1),
            (QUANTIZED.hardswish, (0.1, 3), 5),  # x · min(max(x + 3, 0), 6) / 6
            (QUANTIZED.sigmoid, (0.1, 3), 4),  # 1 / (1 + exp(-x))
            (QUANTIZED.leaky_relu, (0.1, False, 0.1, 3), 2),
            (QUANTIZED.relu6, (), 2),
            (QUANTIZED.threshold, (0.0, 0.0), 1),
            (QUANTIZED.softmax, (1, 0.1, 3), 5),
            (QUANTIZED.dropout, (0.1, 3), 0),
            (torch.relu, (), 1),
            (torch.sigmoid, (), 4),
            (torch.tanh, (), 1),
        ],
    )
    def test_of_one_operand(self, operator, arguments, expected):
        result = for_real(lambda x: operator(x, *arguments), quint8(torch.randn(SHAPE)))
        assert not result.unknown_operators
        assert (result.flops, result.other_flops) == (0, expected * COUNT)

    @pytest.mark.parametrize(
        ("operator", "expected"),
        [(QUANTIZED.add, 1), (QUANTIZED.mul, 1), (QUANTIZED.add_relu, 2), (QUANTIZED.mul_relu, 2)],
    )
    def test_of_two_operands(self, operator, expected):
        operand = quint8(torch.randn(SHAPE))
        assert known(lambda x, y: operator(x, y, 0.1, 3), operand, operand) == (0, expected * COUNT)

    @pytest.mark.parametrize(("operator", "expected"), [(QUANTIZED.cat, 0), (QUANTIZED.cat_relu, 1)])
    def test_put_together(self, operator, expected):
        operand = quint8(torch.randn(SHAPE))
        assert known(lambda x: operator([x, x], 1, 0.1, 3), operand) == (0, expected * 2 * COUNT)

    def test_prelu(self):
        # a comparison with zero, and a product with the slope
        operands = quint8(torch.randn(SHAPE)), quint8(torch.ones(4))
        assert known(lambda x, w: QUANTIZED.prelu(x, w, 0.1, 3), *operands) == (0, 2 * COUNT)

    def test_matmul(self):
        # 8 pairs of 6 · 6 matrices
        operand = quint8(torch.randn(SHAPE))
        assert known(lambda x: QUANTIZED.matmul(x, x, 0.1, 3), operand) == (2 * 8 * 6 * 6 * 6, 0)

    @pytest.mark.parametrize(
        ("operator", "arguments", "affine", "expected"),
        [
            (QUANTIZED.layer_norm, ([6],), 6, 7),  # sum, subtract, square, sum, divide, weight, bias
            (QUANTIZED.group_norm, (2,), 4, 7),
            (QUANTIZED.instance_norm, (), 4, 7),
        ],
    )
    def test_norms(self, operator, arguments, affine, expected):
        operands = quint8(torch.randn(SHAPE)), torch.ones(affine)
        measured = known(lambda x, w: operator(x, *arguments, w, w, 1e-5, 0.1, 3), *operands)
        assert measured == (0, expected * COUNT)

    @pytest.mark.parametrize(("operator", "expected"), [(QUANTIZED.batch_norm2d, 2), (QUANTIZED.batch_norm2d_relu, 3)])
    def test_batch_norm(self, operator, expected):
        # a scale and a shift, and a fused ReLU
        operands = quint8(torch.randn(SHAPE)), torch.ones(4)
        assert known(lambda x, w: operator(x, w, w, w, w, 1e-5, 0.1, 3), *operands) == (0, expected * COUNT)

    def test_pooling(self):
        # A window of 2 · 2 costs 3 comparisons, or 3 sums and a quotient. A window of 2 costs 1 comparison.
        image, sequence = quint8(torch.randn(SHAPE)), quint8(torch.randn(2, 3, 8))
        windows = [2, 2], [2, 2], [0, 0], [1, 1]
        assert known(nn.MaxPool2d(2), image) == (0, 3 * COUNT // 4)
        assert known(lambda x: QUANTIZED.max_pool2d(x, *windows, False), image) == (0, 3 * COUNT // 4)
        assert known(nn.AvgPool2d(2), image) == (0, 4 * COUNT // 4)
        assert known(nn.AdaptiveAvgPool2d(1), image) == (0, COUNT)
        assert known(lambda x: QUANTIZED.max_pool1d(x, [2], [2], [0], [1], False), sequence) == (0, 2 * 3 * 4)

    def test_copies(self):
        operand = quint8(torch.randn(SHAPE))
        assert known(lambda x: torch.cat([x, x]).flatten(1)[:, ::2].contiguous(), operand) == (0, 0)


class TestLinear:
    """A quantized linear layer from 8 to 3 features, on 5 rows."""

    flops = 2 * 5 * 8 * 3

    @pytest.mark.parametrize(
        ("operator", "around"),
        [
            (QUANTIZED.linear_with_input_q_dq_qweight_dq_output_fp32, 1),
            (QUANTIZED.linear_with_input_q_dq_qweight_dq_relu_output_fp32, 2),
        ],
    )
    def test_between_conversions(self, operator, around):
        packed = QUANTIZED.linear_prepack(qint8(torch.randn(3, 8)), torch.randn(3))
        assert known(lambda x: operator(x, 0.1, 3, packed), torch.randn(5, 8)) == (self.flops, around * 15)

    @pytest.mark.parametrize(
        ("name", "arguments", "around"), [("linear_tanh", (), 2), ("linear_leaky_relu", (0.1,), 3)]
    )
    def test_fused_activations(self, name, arguments, around, engine):
        # a bias, and tanh (1) or a leaky ReLU (2)
        engine("onednn")
        packed = QUANTIZED.linear_prepack(qint8(torch.randn(3, 8)), torch.randn(3))
        operator = getattr(QUANTIZED, name)
        measured = known(lambda x: operator(x, packed, 0.1, 0, *arguments), quint8(torch.randn(5, 8), 0.1, 0))
        assert measured == (self.flops, around * 15)

    @pytest.mark.parametrize("bias", [True, False])
    def test_weight_that_is_not_packed(self, bias):
        operands = torch.randn(5, 8), torch.randn(3, 8), torch.randn(3) if bias else None
        assert known(QUANTIZED.linear_dynamic_fp16_unpacked_weight, *operands) == (self.flops, 15 * bias)

    def test_weight_packed_when_called(self):
        scale, zero = torch.tensor(0.1), torch.tensor(0)
        operands = torch.randn(5, 8), scale, zero, torch.randn(3, 8), scale, zero, torch.randn(3), scale, zero
        operator = torch.ops._quantized.wrapped_quantized_linear
        assert known(lambda *args: operator(*args, 3), *operands) == (self.flops, 15)

    def test_half_precision(self):
        packed = torch.ops._quantized.wrapped_fbgemm_pack_gemm_matrix_fp16(torch.randn(3, 8))
        operator = torch.ops._quantized.wrapped_fbgemm_linear_fp16_weight
        measured = known(lambda x, w, b: operator(x, w, b, 3), torch.randn(5, 8), packed, torch.randn(3))
        assert measured == (self.flops, 15)

    def test_sparse(self, engine):
        engine("qnnpack")
        packed = torch.ops.sparse.qlinear_prepack(qint8(torch.eye(3, 8)), torch.randn(3), 1, 4)
        measured = known(lambda x: torch.ops.sparse.qlinear_dynamic(x, packed), torch.randn(5, 8))
        assert measured == (self.flops, 15)

    def test_integers_of_8_bits(self):
        """A product with an 8-bit integer weight costs as much as any other product."""

        def model(rows, weight, scales):
            return torch.ops.aten._weight_int8pack_mm(rows, weight, scales)

        weight = torch.randint(-8, 8, (32, 64), dtype=torch.int8)
        operands = torch.randn(4, 64, dtype=torch.bfloat16), weight, torch.ones(32, dtype=torch.bfloat16)
        assert both(model, operands).flops == 2 * 4 * 64 * 32

    @pytest.mark.skipif(not hasattr(QUANTIZED, "int4mm_packed_weight_cpu"), reason="newer versions of PyTorch have it")
    def test_integers_of_4_bits(self):
        """If each byte of a weight holds two elements, both elements are counted."""
        operands = torch.randn(3, 64), torch.randint(0, 255, (16, 32), dtype=torch.uint8)
        scales = torch.ones(2, 16, 2)
        measured = known(
            lambda x, w, s: QUANTIZED.int4mm_packed_weight_cpu(x, w, torch.tensor(32), s), *operands, scales
        )
        assert measured == (2 * 3 * 64 * 16, 0)

    @pytest.mark.skipif(not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"), reason="newer versions have it")
    def test_integers_of_4_bits_in_groups(self):
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(
            torch.randint(0, 15, (32, 64), dtype=torch.int32), 1
        )
        operands = torch.randn(4, 64, dtype=torch.bfloat16), packed, torch.ones(2, 32, 2, dtype=torch.bfloat16)
        operator = torch.ops.aten._weight_int4pack_mm_for_cpu
        assert both(lambda x, w, s: operator(x, w, 32, s), operands).flops == 2 * 4 * 64 * 32


class TestConvolution:
    """A quantized convolution of 2 images from 4 to 8 channels, in 2 groups."""

    # Each output is a sum of 2 · 9 products.

    outputs = 2 * 8 * 36
    flops = 2 * outputs * 2 * 9

    def packed(self):
        return QUANTIZED.conv2d_prepack(qint8(torch.randn(8, 2, 3, 3)), torch.randn(8), [1, 1], [1, 1], [1, 1], 2)

    def test_older_overload(self):
        packed, settings = self.packed(), ([1, 1], [1, 1], [1, 1], 2)
        measured = known(lambda x: QUANTIZED.conv2d(x, packed, *settings, 0.1, 0), quint8(torch.randn(SHAPE)))
        assert measured == (self.flops, self.outputs)

    def test_older_namespace(self):
        packed = self.packed()
        measured = known(lambda x: torch.ops._quantized.conv2d_relu(x, packed, 0.1, 0), quint8(torch.randn(SHAPE)))
        assert measured == (self.flops, 2 * self.outputs)

    def test_with_a_sum(self, engine):
        # bias, sum and ReLU
        engine("onednn")
        packed = self.packed()
        operands = quint8(torch.randn(SHAPE)), quint8(torch.randn(2, 8, 6, 6))
        measured = known(lambda x, y: QUANTIZED.conv2d_add_relu(x, y, packed, 0.1, 0), *operands)
        assert measured == (self.flops, 3 * self.outputs)


class TestEmbeddings:
    """Quantized embeddings, from which 5 rows of 4 numbers are looked up."""

    rows, offsets = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 2])

    def test_rows(self):
        assert known(torch.ao.nn.quantized.Embedding(10, 4), self.rows) == (0, 0)

    def test_bags(self):
        """A quantized bag of embeddings costs one sum for each number of each row."""
        module = torch.ao.nn.quantized.EmbeddingBag(10, 4, mode="sum", include_last_offset=False)
        assert known(module, self.rows, self.offsets) == (0, 5 * 4)

    @pytest.mark.parametrize("bits", ["byte", "4bit", "2bit"])
    @pytest.mark.parametrize("weighted", [True, False])
    def test_packed_rows(self, bits, weighted):
        """A bag of packed rows costs one sum for each number, and with weights also one product."""
        packed = getattr(QUANTIZED, f"embedding_bag_{bits}_prepack")(torch.randn(10, 4))
        operator = getattr(QUANTIZED, f"embedding_bag_{bits}_rowwise_offsets")
        weights = torch.randn(5) if weighted else None

        def bags(rows, offsets, weights):
            return operator(packed, rows, offsets, False, 0, per_sample_weights=weights)

        assert known(bags, self.rows, self.offsets, weights) == (0, (2 if weighted else 1) * 5 * 4)


class TestDecomposed:
    """Operators of the namespace ``quantized_decomposed``, on 5 rows of 8 numbers."""

    operators = torch.ops.quantized_decomposed

    def test_tensor(self):
        # Quantizing: a quotient, a rounding, a sum and two bounds. Dequantizing: a difference and a product.

        def there_and_back(x):
            integers = self.operators.quantize_per_tensor(x, 0.1, 3, 0, 255, torch.uint8)
            return self.operators.dequantize_per_tensor(integers, 0.1, 3, 0, 255, torch.uint8)

        assert both(there_and_back, torch.randn(5, 8)).other_flops == (5 + 2) * 40

    def test_channel(self):
        def there_and_back(x, scales, zeros):
            integers = self.operators.quantize_per_channel(x, scales, zeros, 0, -128, 127, torch.int8)
            return self.operators.dequantize_per_channel(integers, scales, None, 0, -128, 127, torch.int8)

        operands = torch.randn(5, 8), torch.ones(5), torch.zeros(5, dtype=torch.int64)
        assert both(there_and_back, operands).other_flops == (5 + 1) * 40

    def test_range(self):
        """An operator that chooses a scale searches for the smallest and the largest value."""
        choose = self.operators.choose_qparams
        assert both(lambda x: choose(x, 0, 255, 1e-5, torch.uint8), torch.randn(5, 8)).other_flops == 2 * 40
        choose = self.operators.choose_qparams_per_token
        # On the meta device, the results have other dtypes than on the CPU, so the bytes are not compared.
        without = ("memory_traffic", "peak_memory")
        assert both(lambda x: choose(x, torch.int8), torch.randn(5, 8), without=without).other_flops == 2 * 40
