"""Activations are the output elements of products, and are the same for fused and unfused operators."""

from __future__ import annotations

import itertools
from contextlib import contextmanager

import pytest
import torch
from features import requires
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its name everywhere
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_flopsbudget.counting.costs import Call
from pytest_flopsbudget.counting.costs.activations import products_outputs
from pytest_flopsbudget.counting.meta.recurrent import recurrent_decomposed
from pytest_flopsbudget.counting.operators import accounting
from pytest_flopsbudget.counting.operators.info import operator_info

aten = torch.ops.aten
OVERRIDEABLE = requires("shapes of overrideable attention")
FEWER_HEADS = pytest.param(2, marks=requires("fused attention for fewer heads of keys"))
PRODUCTS = {"aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm", "aten.convolution"}


class Outputs(TorchDispatchMode):
    """A dispatch mode that adds up activations (``said``) and output elements of plain products (``plain``)."""

    def __init__(self):
        super().__init__()
        self.said = 0
        self.plain = 0
        self.operators = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        info = operator_info(func)
        if info.decomposes and not info.runs_nested(args):
            with self:
                return func.decompose(*args, **kwargs)
        output = func(*args, **kwargs)
        if info.formula is not None:
            self.operators.add(info.name)
            self.said += accounting.activations(info, args, kwargs, output)
        if info.name in PRODUCTS:
            self.plain += output.numel()
        return output


def outputs(function, *args, **kwargs):
    with Outputs() as found:
        function(*args, **kwargs)
    return found


def said_of(operator, args, output):
    return products_outputs(Call(operator.default, args, {}, output))


class TestPlainOperators:
    def test_convolution(self):
        # 2 images, 6 channels, 7 · 7 positions
        said = outputs(nn.Conv2d(4, 6, 2), torch.randn(2, 4, 8, 8)).said
        assert said == 2 * 6 * 7 * 7

    @pytest.mark.parametrize("groups", [1, 4])
    @pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
    def test_any_convolution(self, kind, groups):
        """Each output element of a convolution is one activation."""
        convolution, image = kind(4, 8, 3, stride=2, groups=groups), torch.randn(2, 4, 9, 9)
        assert convolution(image).numel() == outputs(convolution, image).said

    @pytest.mark.parametrize("bias", [True, False])
    def test_linear_layers(self, bias):
        said = outputs(nn.Linear(3, 7, bias=bias), torch.randn(2, 5, 3)).said
        assert said == 2 * 5 * 7

    def test_nothing_else(self):
        block = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        assert outputs(block, torch.randn(2, 4, 8, 8)).said == 0

    @pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
    def test_stored_elements(self):
        args = (torch.eye(4).to_sparse_csr(), torch.randn(4, 3), torch.randn(3, 4))
        output = torch.sparse.sampled_addmm(*args)
        assert said_of(aten.sparse_sampled_addmm, args, output) == 4


QUERY, KEY, VALUE = torch.randn(2, 4, 6, 8), torch.randn(2, 4, 10, 8), torch.randn(2, 4, 10, 8)
#: Number of scores and weighted sums: 2 sequences, 4 heads, 6 queries, 10 keys, and values of width 8.
ATTENTION = 2 * 4 * 6 * (10 + 8)


class TestAttention:
    @pytest.mark.parametrize(
        "options", [{}, {"is_causal": True}, {"attn_mask": torch.ones(6, 10, dtype=torch.bool)}], ids=str
    )
    @pytest.mark.parametrize("heads", [4, FEWER_HEADS])
    def test_fused_as_plain(self, options, heads):
        for backend in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
            with sdpa_kernel(backend):
                found = outputs(
                    F.scaled_dot_product_attention, QUERY, KEY[:, :heads], VALUE[:, :heads], enable_gqa=True, **options
                )
            assert found.said == ATTENTION
            assert (backend is SDPBackend.MATH) == (found.plain == ATTENTION)

    @pytest.mark.parametrize(
        ("operator", "more"),
        [
            (aten._scaled_dot_product_flash_attention, ()),
            (aten._scaled_dot_product_efficient_attention, (None, False)),
            (aten._scaled_dot_product_cudnn_attention, (None, False)),
            pytest.param(aten._scaled_dot_product_fused_attention_overrideable, (), marks=OVERRIDEABLE),
        ],
        ids=str,
    )
    def test_kernels_of_other_devices(self, operator, more):
        args = (*(item.to("meta", torch.bfloat16) for item in (QUERY, KEY, VALUE)), *more)
        assert said_of(operator, args, operator(*args)) == ATTENTION

    def test_length_first(self):
        """If operands have the shape (batch, length, heads, width), attention has the same activations."""
        args = (*(item.transpose(1, 2) for item in (QUERY, KEY, VALUE)), None, None, 6, 10, 0.0, False, False)
        assert said_of(aten._flash_attention_forward, args, QUERY) == ATTENTION

    def test_packed(self):
        # 2 heads, each with 1 + 9 scores (sequences of 1 and 3 tokens) and 4 weighted sums of 8 numbers
        tokens, ends = torch.randn(4, 2, 8), torch.tensor([0, 1, 4])
        args = (tokens, tokens, tokens, ends, ends, 3, 3, 0.0, False, False)
        assert said_of(aten._flash_attention_forward, args, tokens) == 2 * (1 + 9) + 4 * 2 * 8


class TestEncoder:
    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize("activation", ["relu", "gelu"])
    def test_layer_in_one(self, masked, activation):
        layer = nn.TransformerEncoderLayer(16, 4, 32, activation=activation, batch_first=True).eval()
        source = torch.randn(2, 5, 16)
        mask = torch.zeros(2, 5, dtype=torch.bool) if masked else None
        with torch.no_grad():
            fused = outputs(layer, source, src_key_padding_mask=mask)
            before = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(value=False)
            with sdpa_kernel(SDPBackend.MATH):
                plain = outputs(layer, source, src_key_padding_mask=mask)
            torch.backends.mha.set_fastpath_enabled(value=before)
        assert "aten._transformer_encoder_layer_fwd" in fused.operators
        assert plain.plain == plain.said == fused.said

    @pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
    def test_nested(self):
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
        sequences = [torch.randn(length, 16) for length in (3, 5)]
        with torch.no_grad():
            nested = outputs(layer, torch.nested.nested_tensor(sequences))
            alone = [outputs(layer, sequence[None]).said for sequence in sequences]
        assert sum(alone) == nested.said

    def test_attention_in_one(self):
        # 4 projections of 2 · 5 tokens, 2 · 4 · 5 · 5 scores, and the weighted sums
        layer, source = nn.MultiheadAttention(16, 4, batch_first=True).eval(), torch.randn(2, 5, 16)
        with torch.no_grad():
            fused = outputs(layer, source, source, source, need_weights=False)
        assert "aten._native_multi_head_attention" in fused.operators
        assert fused.said == 4 * 2 * 5 * 16 + 2 * 4 * 5 * 5 + 2 * 5 * 16


def layers(kind, **options):
    return kind(8, 16, **options), torch.randn(5, 3, 8)


@contextmanager
def every_step():
    """Run recurrent layers step by step, even if oneDNN has an operator for the whole layer."""
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        with recurrent_decomposed():
            yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)


class TestRecurrent:
    @pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
    @pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
    def test_any_as_step_by_step(self, kind, options):
        """The activations of a recurrent layer are the sum of the activations of its steps."""
        layer, inputs = layers(kind, **options)
        with torch.no_grad():
            whole = outputs(layer, inputs)
            with every_step():
                steps = outputs(layer, inputs)
        assert (kind is nn.LSTM) == ("aten.mkldnn_rnn_layer" in whole.operators)
        assert steps.plain == steps.said == whole.said

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
            (nn.GRU, {"num_layers": 2, "bidirectional": True}),
            (nn.LSTM, {"proj_size": 4}),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("operator", [aten._cudnn_rnn, aten.miopen_rnn], ids=str)
    def test_stacks_of_other_devices(self, kind, options, operator):
        layer, inputs = layers(kind, **options)
        with torch.no_grad(), every_step():
            steps = outputs(layer, inputs)
        weights = list(itertools.chain.from_iterable(layer.all_weights))
        assert said_of(operator, (inputs, weights), None) == steps.plain

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
    @pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
    def test_quantized(self, kind):
        layer, inputs = layers(kind, num_layers=2, bidirectional=True)
        quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(layer), {kind}, dtype=torch.qint8)
        with torch.no_grad(), every_step():
            steps = outputs(layer, inputs)
        with torch.no_grad():
            fused = outputs(quantized, inputs)
        assert fused.operators & {"aten.quantized_lstm", "aten.quantized_gru"}
        assert steps.plain == fused.said

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
    @pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
    def test_quantized_cells(self, kind):
        cell, inputs = kind(8, 16), torch.randn(3, 8)
        quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(cell), {kind}, dtype=torch.qint8)
        with torch.no_grad():
            plain, fused = outputs(cell, inputs), outputs(quantized, inputs)
        assert all(operator.startswith("quantized.") for operator in fused.operators)
        assert plain.plain == fused.said


class TestSeveralProducts:
    @requires("torch._foreach_mm")
    def test_lists(self):
        """If an operator multiplies the pairs of two lists, the outputs of all products are activations."""
        left, right = [torch.randn(2, 3), torch.randn(4, 3)], [torch.randn(3, 5), torch.randn(3, 6)]
        expected = sum((a @ b).numel() for a, b in zip(left, right, strict=True))
        products = [a @ b for a, b in zip(left, right, strict=True)]
        assert said_of(torch.ops.aten._foreach_mm, (left, right), products) == expected

    def test_sum_of_two(self):
        left, right, output = torch.randn(2, 3), torch.randn(3, 5), torch.empty(2, 5)
        assert said_of(torch.ops.inductor._mm_plus_mm, (left, right, left, right, output), output) == 2 * 2 * 5

    @pytest.mark.skipif(not hasattr(nn, "LinearCrossEntropyOptions"), reason="PyTorch 2.13 and newer")
    @pytest.mark.parametrize("reduction", ["mean", "none"])
    @pytest.mark.parametrize("gradients", [False, True])
    def test_linear_cross_entropy(self, reduction, gradients):
        # 6 rows of 9 logits
        inputs, weight = (torch.randn(size, 4, requires_grad=gradients) for size in (6, 9))
        options = nn.LinearCrossEntropyOptions(batch_chunk_size=2)
        target = torch.zeros(6, dtype=torch.int64)
        found = outputs(F.linear_cross_entropy, inputs, weight, target, reduction=reduction, options=options)
        assert any("linear_cross_entropy" in operator for operator in found.operators)
        assert found.said == 6 * 9
