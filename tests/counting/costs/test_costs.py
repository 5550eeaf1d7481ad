"""Products, attention and recurrent layers cost as much as loops that count single multiply-accumulates."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from features import requires
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its name everywhere
from torch.nn.attention import SDPBackend, sdpa_kernel
from zoo import both, for_real

sizes = st.integers(min_value=1, max_value=5)
few = settings(max_examples=20, deadline=None)


def macs_of_product(left, right):
    """Return the number of multiply-accumulates in a product of the shapes (..., m, k) and (..., k, n)."""
    batch = torch.broadcast_shapes(left[:-2], right[:-2])
    count = 0
    for _ in itertools.product(*map(range, batch)):
        for _row in range(left[-2]):
            for _column in range(right[-1]):
                for _summed in range(left[-1]):
                    count += 1
    return count


class TestProducts:
    @few
    @given(sizes, sizes, sizes, sizes)
    def test_plain_batched_and_added_products(self, b, m, k, n):
        """A matrix product costs two FLOPs for each multiply-accumulate."""
        one = 2 * macs_of_product((m, k), (k, n))
        many = 2 * macs_of_product((b, m, k), (b, k, n))
        left, right, bias = torch.ones(m, k), torch.ones(k, n), torch.ones(m, n)
        lefts, rights = torch.ones(b, m, k), torch.ones(b, k, n)
        assert both(torch.mm, (left, right)).flops == one
        assert both(torch.addmm, (bias, left, right)).flops == one
        assert both(torch.bmm, (lefts, rights)).flops == many
        assert both(torch.baddbmm, (bias.expand(b, m, n), lefts, rights)).flops == many
        assert both(torch.addbmm, (bias, lefts, rights)).flops == many
        if k > 1:  # for k = 1 there is no sum, and PyTorch multiplies element by element
            assert both(torch.einsum, ("bmk,bkn->bmn", lefts, rights)).flops == many

    @few
    @given(sizes, sizes)
    def test_vectors(self, m, k):
        matrix, vector = torch.ones(m, k), torch.ones(k)
        assert both(torch.mv, (matrix, vector)).flops == 2 * macs_of_product((m, k), (k, 1))
        assert both(torch.addmv, (torch.ones(m), matrix, vector)).flops == 2 * macs_of_product((m, k), (k, 1))
        assert both(torch.dot, (vector, vector)).flops == 2 * macs_of_product((1, k), (k, 1))
        assert both(torch.vdot, (vector, vector)).flops == 2 * macs_of_product((1, k), (k, 1))

    @few
    @given(st.lists(sizes, max_size=2), st.booleans(), st.booleans(), sizes, sizes, sizes)
    def test_broadcast_matmul(self, batch, left_has_it, right_has_it, m, k, n):  # noqa: PLR0917 -- drawn one by one
        left = (*(batch if left_has_it else [1] * len(batch)), m, k)
        right = (*(batch if right_has_it else ()), k, n)
        assert both(torch.matmul, (torch.ones(left), torch.ones(right))).flops == 2 * macs_of_product(left, right)

    def test_a_matrix_by_a_batch(self):
        # 8 products of 3 * 4 * 5 multiply-accumulates
        assert both(torch.matmul, (torch.ones(3, 4), torch.ones(8, 4, 5))).macs == 480

    @few
    @given(st.lists(sizes, min_size=1, max_size=4), sizes, st.booleans())
    def test_linear(self, shape, outputs, bias):
        layer = nn.Linear(shape[-1], outputs, bias=bias)
        assert both(layer, torch.ones(shape)).flops == 2 * math.prod(shape) * outputs

    @few
    @given(sizes, sizes, sizes, sizes)
    def test_bilinear(self, batch, i, j, outputs):
        layer = nn.Bilinear(i, j, outputs)
        assert both(layer, (torch.ones(batch, i), torch.ones(batch, j))).flops == 2 * batch * outputs * i * j

    @few
    @given(sizes, sizes, sizes)
    def test_complex(self, m, k, n):
        """A complex multiply-accumulate costs four multiplications and four additions."""
        left, right = torch.ones(m, k, dtype=torch.complex64), torch.ones(k, n, dtype=torch.complex64)
        assert both(torch.mm, (left, right)).flops == 8 * macs_of_product((m, k), (k, n))

    def test_complex_convolution(self):
        # 8 FLOPs for each of 4 positions and 3 products
        inputs, weight = torch.ones(1, 1, 6, dtype=torch.complex64), torch.ones(1, 1, 3, dtype=torch.complex64)
        assert both(F.conv1d, (inputs, weight)).flops == 8 * 4 * 3

    def test_integers(self):
        left, right = torch.ones(32, 16, dtype=torch.int8), torch.ones(16, 8, dtype=torch.int8)
        assert both(torch._int_mm, (left, right)).flops == 2 * 32 * 16 * 8

    @requires("torch._grouped_mm on the CPU")
    def test_grouped(self):
        rows, matrices = torch.ones(16, 8, dtype=torch.bfloat16), torch.ones(2, 8, 24, dtype=torch.bfloat16)
        ends = torch.tensor([4, 16], dtype=torch.int32)
        expected = 2 * (4 * 8 * 24 + 12 * 8 * 24)
        assert both(torch._grouped_mm, (rows, matrices), {"offs": ends}).flops == expected

    @requires("torch._grouped_mm on the CPU")
    def test_grouped_columns(self):
        # The groups divide the columns, then the summed dimension. The last product has no groups.
        ends = torch.tensor([8, 16], dtype=torch.int32)

        def ones(*shape):
            return torch.ones(shape, dtype=torch.bfloat16)

        columns = both(torch._grouped_mm, (ones(2, 8, 24), ones(24, 16)), {"offs": ends})
        assert columns.flops == 2 * (8 * 24 * 8 + 8 * 24 * 8)
        summed = both(torch._grouped_mm, (ones(8, 16), ones(16, 24)), {"offs": ends})
        assert summed.flops == 2 * (8 * 8 * 24 + 8 * 8 * 24)
        assert both(torch._grouped_mm, (ones(2, 8, 16), ones(2, 16, 24))).flops == 2 * 2 * 8 * 16 * 24

    @few
    @given(sizes, sizes, sizes)
    def test_backward(self, m, k, n):
        """The gradient of each operand is one product that costs as much as the forward product."""
        left, right = torch.ones(m, k, requires_grad=True), torch.ones(k, n)
        one = 2 * macs_of_product((m, k), (k, n))
        assert both(torch.mm, (left, right), backward=True).flops == 2 * one
        assert both(torch.mm, (left, right.requires_grad_()), backward=True).flops == 3 * one

    def test_an_outer_product_has_no_sum(self):
        assert both(torch.outer, (torch.ones(3), torch.ones(4))).flops == 0


class TestSparse:
    matrix = torch.tensor([[1.0, 0, 2], [0, 0, 3]])

    @pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
    @pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
    def test_sparse_by_dense(self, layout):
        """A sparse matrix times a dense matrix costs 2 FLOPs for each stored element and each dense column."""
        sparse = self.matrix.to_sparse(layout=layout)
        assert for_real(torch.mm, (sparse, torch.ones(3, 5))).flops == 2 * 3 * 5
        assert for_real(torch.sparse.mm, (sparse, torch.ones(3, 5))).flops == 2 * 3 * 5
        assert for_real(torch.addmm, (torch.ones(2, 5), sparse, torch.ones(3, 5))).flops == 2 * 3 * 5

    def test_sparse_by_vector(self):
        assert for_real(torch.mv, (self.matrix.to_sparse(), torch.ones(3))).flops == 2 * 3

    @pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
    def test_reduced_products(self):
        """If a sparse matrix product takes the mean of its terms instead of their sum, its `flops` are the same."""
        sparse = self.matrix.to_sparse_csr()
        assert for_real(lambda a, b: torch.sparse.mm(a, b, "mean"), (sparse, torch.ones(3, 5))).flops == 2 * 3 * 5

    @pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
    def test_gradients_of_a_reduced_product(self):
        sparse = self.matrix.to_sparse_csr()
        dense = torch.ones(3, 5, requires_grad=True)
        one = for_real(lambda a, b: torch.sparse.mm(a, b, "mean"), (sparse, dense), backward=True)
        assert one.flops == (1 + 1) * 2 * 3 * 5
        two = for_real(lambda a, b: torch.sparse.mm(a, b, "mean"), (sparse.requires_grad_(), dense), backward=True)
        assert two.flops == (1 + 2) * 2 * 3 * 5
        assert not two.unknown_operators

    def test_sparse_by_sparse_is_named(self):
        """A product of two sparse matrices is an unknown operator, because its cost depends on the values."""
        sparse = self.matrix.to_sparse()
        assert "aten._sparse_sparse_matmul" in for_real(torch.sparse.mm, (sparse, sparse.t())).unknown_operators


@st.composite
def convolutions(draw):
    """Draw the settings of a convolution and the shape of an input."""
    dims = draw(st.integers(min_value=1, max_value=3))

    def per_dim(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    groups = draw(st.sampled_from([1, 2, 3]))
    kernel, stride, padding, dilation = per_dim(1, 3), per_dim(1, 2), per_dim(0, 2), per_dim(1, 2)
    size = tuple(d * (k - 1) + 1 + draw(st.integers(0, 2)) for d, k in zip(dilation, kernel, strict=True))
    settings = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    channels = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    return dims, channels, settings, (draw(st.integers(1, 2)), channels[0], *size)


def positions_of(size, settings):
    """Return the number of positions at which the kernel fits into the padded input."""
    count = 1
    for length, kernel, stride, padding, dilation in zip(
        size,
        settings["kernel_size"],
        settings["stride"],
        settings["padding"],
        settings["dilation"],
        strict=True,
    ):
        reach = dilation * (kernel - 1)
        count *= sum(1 for start in range(0, length + 2 * padding, stride) if start + reach < length + 2 * padding)
    return count


class TestConvolutions:
    @settings(max_examples=40, deadline=None)
    @given(convolutions())
    def test_forward_and_backward(self, case):
        """Each gradient of a convolution costs as much as the forward pass."""
        dims, (ins, outs), parameters, shape = case
        layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](ins, outs, **parameters)
        per_position = outs * ins // parameters["groups"] * math.prod(parameters["kernel_size"])
        flops = 2 * shape[0] * positions_of(shape[2:], parameters) * per_position
        inputs = torch.ones(shape)
        assert both(layer, inputs).flops == flops
        assert both(layer, inputs, backward=True).flops == 2 * flops
        assert both(layer, inputs.requires_grad_(), backward=True).flops == 3 * flops

    @settings(max_examples=40, deadline=None)
    @given(convolutions())
    def test_transposed(self, case):
        """Each gradient of a transposed convolution costs as much as the forward pass."""
        dims, (ins, outs), parameters, shape = case
        # The padding of a transposed convolution cuts its output. It is 0 here, so that it never cuts the whole output.
        layer = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 1](
            ins, outs, **{**parameters, "padding": 0}
        )
        per_position = ins * outs // parameters["groups"] * math.prod(parameters["kernel_size"])
        flops = 2 * shape[0] * math.prod(shape[2:]) * per_position
        inputs = torch.ones(shape)
        assert both(layer, inputs).flops == flops
        assert both(layer, inputs, backward=True).flops == 2 * flops
        assert both(layer, inputs.requires_grad_(), backward=True).flops == 3 * flops

    def test_depthwise(self):
        # 9 products for each of 8 channels and 4 * 4 positions
        assert both(nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.ones(1, 8, 4, 4)).flops == 2 * 8 * 16 * 9

    def test_time_major(self):
        # 4 positions in each of 2 sequences, 5 output channels, and sums over 3 steps of 4 channels
        args = torch.ones(6, 2, 4), torch.ones(3, 4, 5), torch.ones(5)
        assert both(torch.conv_tbc, args).flops == 2 * 4 * 2 * 5 * 3 * 4

    def test_without_a_batch(self):
        assert both(nn.Conv2d(2, 3, 3), torch.ones(2, 5, 5)).flops == 2 * 9 * 3 * 2 * 9

    @pytest.mark.filterwarnings("ignore:Using padding='same'")
    def test_named_padding(self):
        """With padding="same", the output of a convolution is as long as its input."""
        assert both(nn.Conv1d(2, 3, 4, padding="same"), torch.ones(1, 2, 7)).flops == 2 * 7 * 3 * 2 * 4


def attention_flops(batch, heads, queries, keys, width, value_width):  # noqa: PLR0917 -- as formulas have them
    """Return the FLOPs of attention, counted in a loop over all pairs of a query and a key."""
    count = 0
    for _ in range(batch * heads * queries * keys):
        count += 2 * width + 2 * value_width
    return count


class TestAttention:
    @pytest.mark.parametrize("backend", [None, SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
    @pytest.mark.parametrize("causal", [False, True])
    def test_backends(self, backend, causal):
        """Each backend of attention has the same `flops`, with and without a causal mask."""

        def attend(query, key, value):
            if backend is None:
                return F.scaled_dot_product_attention(query, key, value, is_causal=causal)
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(query, key, value, is_causal=causal)

        query, key = torch.randn(2, 4, 6, 8, requires_grad=True), torch.randn(2, 4, 5, 8, requires_grad=True)
        value = torch.randn(2, 4, 5, 8, requires_grad=True)
        forward = attention_flops(2, 4, 6, 5, 8, 8)
        assert both(attend, (query, key, value)).flops == forward
        assert both(attend, (query, key, value), backward=True).flops == 3 * forward

    @few
    @given(sizes, sizes, sizes, sizes, sizes, sizes, st.booleans())
    def test_any_sizes(self, batch, heads, queries, keys, width, value_width, masked):  # noqa: PLR0917 -- drawn one by one
        query, key = torch.randn(batch, heads, queries, width), torch.randn(batch, heads, keys, width)
        value = torch.randn(batch, heads, keys, value_width)
        mask = torch.ones(queries, keys, dtype=torch.bool) if masked else None
        flops = both(F.scaled_dot_product_attention, (query, key, value), {"attn_mask": mask}).flops
        assert flops == attention_flops(batch, heads, queries, keys, width, value_width)

    @pytest.mark.parametrize("heads_of_keys", [1, 2, 4])
    def test_grouped_query_heads(self, heads_of_keys):
        """If several query heads share a key head, the products of each query head are counted."""
        query = torch.randn(2, 4, 6, 8)
        key = value = torch.randn(2, heads_of_keys, 5, 8)
        counted = both(F.scaled_dot_product_attention, (query, key, value), {"enable_gqa": True})
        assert counted.flops == attention_flops(2, 4, 6, 5, 8, 8)

    def test_keyword_arguments(self):
        operands = dict.fromkeys(("query", "key", "value"), torch.randn(1, 2, 3, 4))
        assert both(F.scaled_dot_product_attention, (), operands).flops == attention_flops(1, 2, 3, 3, 4, 4)

    def test_without_heads(self):
        """Operands of attention that have the shape (batch, length, width) are counted as one head."""
        operand = torch.randn(2, 3, 4)
        assert both(F.scaled_dot_product_attention, (operand, operand, operand)).flops == attention_flops(
            2, 1, 3, 3, 4, 4
        )


GATES = {nn.RNN: 1, nn.GRU: 3, nn.LSTM: 4}


def recurrent_flops(kind, steps, features, hidden, layers, directions, projection=0):  # noqa: PLR0917
    """Return the `flops` of a recurrent layer. ``steps`` is the number of steps of all sequences together."""
    count = 0
    outputs = projection or hidden
    for _ in range(steps):
        for layer in range(layers):
            inputs = features if layer == 0 else directions * outputs
            for _ in range(directions):
                count += 2 * GATES[kind] * hidden * (inputs + outputs) + 2 * hidden * projection
    return count


class TestRecurrent:
    @pytest.mark.parametrize("kind", GATES)
    @pytest.mark.parametrize("batch_first", [False, True])
    @pytest.mark.parametrize(("layers", "directions"), [(1, 1), (2, 1), (1, 2), (2, 2)])
    def test_layers_and_directions(self, kind, batch_first, layers, directions):
        """The backward pass of a recurrent layer has at most twice the `flops` of its forward pass."""
        # Two gradients are missing: ``initial`` of the initial states, ``first`` of an input that requires no gradient.
        model = kind(3, 4, layers, bidirectional=directions == 2, batch_first=batch_first)
        inputs = torch.randn(5, 2, 3)
        batch = 5 if batch_first else 2
        forward = recurrent_flops(kind, 5 * 2, 3, 4, layers, directions)
        initial = 2 * GATES[kind] * 4 * 4 * layers * directions * batch
        first = 2 * GATES[kind] * 4 * 3 * directions * 5 * 2
        assert both(model, inputs).flops == forward
        # Bytes are not compared for an LSTM: oneDNN decides how many bytes it keeps for its backward pass.
        without = ("peak_memory",) if kind is nn.LSTM else ()
        assert both(model, inputs, backward=True, without=without).flops == 3 * forward - initial - first
        assert both(model, inputs.requires_grad_(), backward=True, without=without).flops == 3 * forward - initial

    @pytest.mark.filterwarnings("ignore:LSTM with projections")
    @pytest.mark.parametrize("directions", [1, 2])
    def test_projections(self, directions):
        model = nn.LSTM(3, 4, 2, bidirectional=directions == 2, proj_size=2)
        flops = recurrent_flops(nn.LSTM, 5 * 2, 3, 4, 2, directions, projection=2)
        assert both(model, torch.randn(5, 2, 3)).flops == flops

    @pytest.mark.parametrize("kind", GATES)
    def test_packed_sequences(self, kind):
        # 5 + 3 + 2 steps
        packed = nn.utils.rnn.pack_padded_sequence(torch.randn(5, 3, 3), torch.tensor([5, 3, 2]))
        assert for_real(kind(3, 4), (packed,)).flops == recurrent_flops(kind, 10, 3, 4, 1, 1)

    @pytest.mark.parametrize(("cell", "kind"), [(nn.RNNCell, nn.RNN), (nn.GRUCell, nn.GRU), (nn.LSTMCell, nn.LSTM)])
    def test_cells(self, cell, kind):
        """A recurrent cell has the same `flops` as one step of a recurrent layer of the same kind."""
        assert both(cell(3, 4), torch.randn(2, 3)).flops == recurrent_flops(kind, 2, 3, 4, 1, 1)

    @pytest.mark.parametrize("kind", GATES)
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
    def test_modes(self, kind, mode):
        """A recurrent layer has the same `flops` in each gradient mode, although PyTorch runs different operators."""
        with mode():
            assert both(kind(3, 4), torch.randn(5, 2, 3)).flops == recurrent_flops(kind, 10, 3, 4, 1, 1)


class TestQuantized:
    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
    def test_static_layers(self):
        model = nn.Sequential(
            torch.ao.quantization.QuantStub(), nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)
        ).eval()
        model.qconfig = torch.ao.quantization.get_default_qconfig(torch.backends.quantized.engine)
        prepared = torch.ao.quantization.prepare(model)
        prepared(torch.randn(1, 4, 4, 4))
        counted = for_real(torch.ao.quantization.convert(prepared), (torch.randn(3, 4, 4, 4),))
        # 3 images: 2 * 2 positions of 6 channels, each with 2 channels * 3 * 3 products; then a linear layer 24 * 5.
        assert counted.flops == 2 * 3 * (4 * 6 * 2 * 9 + 24 * 5)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
    def test_dynamic_linear(self):
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 4)), {nn.Linear})
        counted = for_real(model, (torch.randn(3, 8),))
        assert counted.flops == 2 * 3 * 8 * 4
        assert not counted.unknown_operators


@pytest.mark.skipif(not hasattr(nn, "LinearCrossEntropyOptions"), reason="PyTorch 2.13 and newer")
class TestLinearCrossEntropyInChunks:
    """Linear cross entropy of 8 rows with 3 features and 4 classes."""

    product = 2 * 8 * 3 * 4

    def measured(self, *, reduction, requires_grad, backward):
        options = nn.LinearCrossEntropyOptions(batch_chunk_size=2)
        target = torch.zeros(8, dtype=torch.int64)
        inputs, weight = (torch.ones(size, 3, requires_grad=requires_grad) for size in (8, 4))

        def loss(*args):
            return F.linear_cross_entropy(*args, reduction=reduction, options=options)

        return both(loss, (inputs, weight, target), backward=backward)

    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_forward(self, reduction):
        """Without gradients, linear cross entropy costs only the product for the logits."""
        result = self.measured(reduction=reduction, requires_grad=False, backward=False)
        assert result.flops == self.product

    def test_gradients_are_worked_out_on_the_way_forward(self):
        """If linear cross entropy is a mean over rows, its forward pass already computes the gradients."""
        # the logits and two gradients, each for the cost of one product
        result = self.measured(reduction="mean", requires_grad=True, backward=True)
        assert result.flops == 3 * self.product

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize(
        ("reduction", "requested"),
        [
            *itertools.product(["mean", "sum"], [(), (0,), (1,), (2,), (0, 1, 2)]),
            ("none", ()),  # its backward pass runs other operators, and computes the logits again
        ],
        ids=str,
    )
    def test_as_unfused(self, reduction, requested, weighted):
        """Linear cross entropy costs as much as a linear layer and cross entropy together."""
        target, classes = torch.zeros(8, dtype=torch.int64), torch.ones(4) if weighted else None
        operands = [torch.ones(size) for size in ((8, 3), (4, 3), (4,))]
        for index in requested:
            operands[index].requires_grad_()

        def loss(x, weight, bias):
            options = nn.LinearCrossEntropyOptions(batch_chunk_size=2)
            return F.linear_cross_entropy(
                x, weight, target, linear_bias=bias, weight=classes, reduction=reduction, options=options
            )

        def unfused(*operands):
            return F.cross_entropy(F.linear(*operands), target, weight=classes, reduction=reduction)

        fused, plain = (both(function, tuple(operands), backward=bool(requested)) for function in (loss, unfused))
        assert fused.flops == plain.flops
        # The fused operator computes the gradients early, and multiplies them with the gradient of the loss later.
        assert fused.other_flops == plain.other_flops + sum(operands[index].numel() for index in requested)

    def test_gradients_of_one_loss_a_row(self):
        """If linear cross entropy returns one loss for each row, its backward pass computes the logits again."""
        # the logits twice, two gradients, and two dot products for the loss
        result = self.measured(reduction="none", requires_grad=True, backward=True)
        assert result.flops == 4 * self.product + 2 * (2 * 8)
