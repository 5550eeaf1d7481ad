"""Attention over packed sequences costs products only for a query and the keys of its own sequence."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from pytest_flopsbudget import measure, shape_only, watch
from pytest_flopsbudget.counting.operators.accounting import activations, cost_of
from pytest_flopsbudget.counting.operators.info import operator_info

varlen = pytest.importorskip("torch.nn.attention.varlen", reason="this PyTorch lacks torch.nn.attention.varlen")
if not hasattr(varlen, "varlen_attn_out"):
    pytest.skip("this PyTorch lacks varlen_attn_out", allow_module_level=True)
varlen_attn, varlen_attn_out = varlen.varlen_attn, varlen.varlen_attn_out

aten = torch.ops.aten

HEADS, WIDTH = 4, 8
PACKED = [[3, 5], [7], [1, 1, 6], [4, 0, 2, 9]]


def offsets(lengths, device="cpu"):
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)


def tokens(lengths, heads=HEADS, *, grad=False):
    return torch.zeros(sum(lengths), heads, WIDTH, dtype=torch.float16, requires_grad=grad)


def pairs(queries, keys):
    """Return the number of (query, key) pairs, given the number of queries and of keys in each sequence."""
    return sum(1 for q, k in zip(queries, keys, strict=True) for _ in range(q) for _ in range(k))


def products(queries, keys=None):
    """Return the FLOPs of attention, given the numbers of queries and keys in each sequence."""
    return 2 * 2 * HEADS * WIDTH * pairs(queries, keys or queries)


def attend(query, key, cu_q, cu_k, **options):
    return varlen_attn(query, key, key, cu_q, cu_k, 9, 9, **options)


def flash(query, key, cu_q, cu_k):
    return aten._flash_attention_forward(query, key, key, cu_q, cu_k, 9, 9, 0.0, False, False)[0]


def efficient(query, key, cu_q, cu_k):
    query, key = query[None], key[None]
    return aten._efficient_attention_forward(query, key, key, None, cu_q, cu_k, 9, 9, 0.0, 0)[0]


KERNELS = pytest.mark.parametrize("kernel", [attend, flash, efficient])


def counted(kernel, *args, **kwargs):
    result = measure(kernel, args, **kwargs)
    assert not result.unknown_operators
    return result


def bounds(result):
    """Return the notes which say that a count is an upper bound."""
    return [note for note in result.notes if "upper bound" in note]


class TestKnown:
    @KERNELS
    @pytest.mark.parametrize("lengths", PACKED, ids=str)
    def test_self_attention(self, kernel, lengths):
        result = counted(kernel, tokens(lengths), tokens(lengths), offsets(lengths), offsets(lengths))
        assert result.flops == products(lengths)
        assert not bounds(result)

    @KERNELS
    def test_cross_attention(self, kernel):
        queries, keys = [2, 5, 1], [9, 3, 4]
        result = counted(kernel, tokens(queries), tokens(keys), offsets(queries), offsets(keys))
        assert result.flops == products(queries, keys)

    @KERNELS
    def test_activations(self, kernel):
        """In packed attention, each score and each element of the output is one activation."""
        result = counted(kernel, tokens([3, 5]), tokens([3, 5]), offsets([3, 5]), offsets([3, 5]))
        assert result.activations == HEADS * (3 * 3 + 5 * 5) + 8 * HEADS * WIDTH

    def test_other_work(self):
        # Each element of queries and keys is scaled once. Softmax costs 5 FLOPs for each score.
        plain = counted(attend, tokens([3, 5]), tokens([3, 5]), offsets([3, 5]), offsets([3, 5]))
        assert plain.other_flops == 2 * 8 * HEADS * WIDTH + 5 * HEADS * 34
        args = (tokens([3, 5]), tokens([3, 5]), offsets([3, 5]), offsets([3, 5]))
        causal = measure(attend, args, {"window_size": (-1, 0)})
        assert causal.other_flops - plain.other_flops == HEADS * 34
        assert causal.flops == plain.flops

    def test_shared_key_heads(self):
        lengths = [3, 5]
        args = (tokens(lengths), tokens(lengths, 2), offsets(lengths), offsets(lengths))
        assert measure(attend, args, {"enable_gqa": True}).flops == products(lengths)

    @pytest.mark.parametrize("lengths", PACKED, ids=str)
    def test_backward(self, lengths):
        """The backward pass of packed attention costs two products for each product of the forward pass."""
        operand = tokens(lengths, grad=True)
        result = counted(attend, operand, operand, offsets(lengths), offsets(lengths), backward=True)
        assert result.flops == 3 * products(lengths)
        assert result.operators["torch_attn._varlen_attn_backward"].flops == 2 * products(lengths)

    @pytest.mark.parametrize("lengths", PACKED, ids=str)
    @pytest.mark.parametrize("shared", [1, 2])
    def test_kernels_for_the_backward_pass(self, lengths, shared):
        query, key, cu = tokens(lengths), tokens(lengths, HEADS // shared), offsets(lengths)
        flash = (query, query, key, key, query, query, cu, cu, 9, 9, 0.0, False, cu, cu)
        calls = {
            aten._flash_attention_backward: flash,
            aten._cudnn_attention_backward: (query, query, key, key, query, query, cu, cu, None, *flash[6:12]),
        }
        batch = [item[None] for item in (query, key)]
        calls[aten._efficient_attention_backward] = (
            *(batch[0], batch[0], batch[1], batch[1], None, batch[0], cu, cu, 9, 9),
            *(query, 0.0, cu, cu, 0, False),
        )
        for operator, args in calls.items():
            cost = cost_of(operator_info(operator.default), args, {}, (query, key, key))
            assert cost.flops == 2 * products(lengths)
            keys = sum(lengths) * HEADS * WIDTH
            gradients_summed = 2 * (shared - 1) * sum(lengths) * (HEADS // shared) * WIDTH
            assert cost.other_flops == 2 * keys + 4 * HEADS * pairs(lengths, lengths) + gradients_summed

    def test_written_to_an_output(self):
        lengths = [3, 5]

        def attend_into(out, query, cu):
            return varlen_attn_out(out, query, query, query, cu, cu, 9, 9)

        assert counted(attend_into, tokens(lengths), tokens(lengths), offsets(lengths)).flops == products(lengths)

    def test_cache_of_keys(self):
        queries, space, used = [1, 1, 2], [16, 16, 16], [3, 9, 5]
        args = (tokens(queries), tokens(space), offsets(queries), offsets(space))
        assert measure(attend, args, {"seqused_k": torch.tensor(used)}).flops == products(queries, used)

    def test_pages_of_keys(self):
        queries, used = [1, 2], [5, 7]
        pages = torch.zeros(6, 4, HEADS, WIDTH, dtype=torch.float16)
        options = {"seqused_k": torch.tensor(used), "block_table": torch.zeros(2, 2, dtype=torch.int32)}
        assert measure(attend, (tokens(queries), pages, offsets(queries), None), options).flops == products(
            queries, used
        )

    def test_kernel_of_cudnn(self):
        """cuDNN's attention operator is counted for packed sequences and for a padded batch."""
        operator = operator_info(aten._cudnn_attention_forward.default)
        query, cu = tokens([3, 5]), offsets([3, 5])
        args = (query, query, query, None, cu, cu, 9, 9, True)
        assert cost_of(operator, args, {}, (query,)).flops == products([3, 5])
        assert activations(operator, args, {}, (query,)) == HEADS * (9 + 25) + 8 * HEADS * WIDTH
        batch = torch.zeros(2, HEADS, 5, WIDTH)
        args = (batch, batch, batch, None, None, None, 5, 5, True)
        assert cost_of(operator, args, {}, (batch,)).flops == products([5, 5])


class TestHowValuesAreKnown:
    LENGTHS = (3, 5)

    def test_made_in_the_model(self):
        """If a model computes the offsets of its sequences from Python numbers, the offsets are known on shapes."""
        result = counted(lambda q: attend(q, q, offsets(self.LENGTHS), offsets(self.LENGTHS)), tokens(self.LENGTHS))
        assert (result.flops, result.execution, result.notes) == (products(self.LENGTHS), "shapes", ())

    def test_computed_from_lengths(self):
        def packed(query, lengths):
            cu = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
            return attend(query, query, cu, cu)

        result = counted(packed, tokens(self.LENGTHS), torch.tensor(self.LENGTHS))
        assert result.flops == products(self.LENGTHS)
        assert not bounds(result)

    def test_buffer_of_the_model(self):
        model = torch.nn.Module()
        model.register_buffer("cu", offsets(self.LENGTHS))
        model.forward = lambda query: attend(query, query, model.cu, model.cu)
        assert counted(model, tokens(self.LENGTHS)).flops == products(self.LENGTHS)

    def test_other_lengths_of_the_same_shape(self):
        for lengths in ([3, 5], [1, 7], [4, 4]):
            args = (tokens(lengths), tokens(lengths), offsets(lengths), offsets(lengths))
            assert counted(attend, *args).flops == products(lengths)
            assert measure(attend, args, reuse_answers=False).flops == products(lengths)


class TestUnknown:
    @KERNELS
    def test_upper_bound(self, kernel):
        """If the lengths are unknown, each query is counted with as many keys as the longest sequence has."""
        query, cu = tokens([3, 5]), offsets([3, 5], "meta")
        result = counted(kernel, query, query, cu, cu)
        assert (result.flops, result.execution) == (2 * 2 * HEADS * WIDTH * 8 * 9, "shapes")
        (note,) = bounds(result)
        assert "attention" in note or "varlen_attn" in note

    def test_one_of_two_known(self):
        query = tokens([3, 5])
        result = counted(attend, query, query, offsets([3, 5]), offsets([3, 5], "meta"))
        assert result.flops == 2 * 2 * HEADS * WIDTH * 8 * 9
        assert len(bounds(result)) == 1

    def test_longest_sequence_unknown(self):
        """If neither the lengths nor their maximum is known, each query is counted with all keys."""

        def kernel(query, cu):
            return aten._efficient_attention_forward(query, query, query, None, cu, cu, 9, None, 0.0, 0)[0]

        result = counted(kernel, tokens([3, 5])[None], offsets([3, 5], "meta"))
        assert result.flops == 2 * 2 * HEADS * WIDTH * 8 * 8

    def test_backward(self):
        query, cu = tokens([3, 5], grad=True), offsets([3, 5], "meta")
        result = counted(attend, query, query, cu, cu, backward=True)
        assert result.flops == 3 * 2 * 2 * HEADS * WIDTH * 8 * 9
        assert len(bounds(result)) == 2


class TestWatched:
    @pytest.fixture
    def kernel_for_cpu(self):
        """Register a CPU kernel for flash attention, because PyTorch has none."""
        library = torch.library.Library("aten", "IMPL")

        def kernel(query, *_args, **_kwargs):
            return (query.clone(), *(query.new_zeros(1) for _ in range(4)))

        library.impl("_flash_attention_forward", kernel, "CPU")
        yield
        library._destroy()

    @pytest.mark.usefixtures("kernel_for_cpu")
    def test_each_call_by_its_lengths(self):
        """If two watched calls have equal shapes and different lengths, each is counted by its lengths."""
        query = tokens([3, 5])
        with watch() as watched:
            flash(query, query, offsets([3, 5]), offsets([3, 5]))
            flash(query, query, offsets([1, 7]), offsets([1, 7]))
        assert watched.complexity.flops == products([3, 5]) + products([1, 7])


class Packs(nn.Module):
    """A model that keeps the offsets of its sequences, and attends within each sequence."""

    def __init__(self, kernel, make):
        super().__init__()
        self.kernel, self.offsets = kernel, make()

    def forward(self, x):
        cu = self.offsets[0] if isinstance(self.offsets, list) else self.offsets
        return self.kernel(x, x, cu, cu)


#: Name → code that makes offsets of sequences of 3 and 5 tokens from Python numbers.
MADE = {
    "tensor": lambda: offsets([3, 5]),
    "buffer": lambda: nn.Buffer(offsets([3, 5])),
    "list": lambda: [offsets([3, 5])],
    "cumsum": lambda: torch.cumsum(torch.tensor([0, 3, 5]), 0).int(),
}


@pytest.mark.parametrize("shapes", ["preferred", "only"])
@pytest.mark.parametrize("made", MADE)
@KERNELS
def test_offsets_that_were_made_without_data(kernel, made, shapes):
    """Under `shape_only`, offsets that follow from Python numbers are known."""
    with shape_only():
        model = Packs(kernel, MADE[made])
    result = measure(model, tokens([3, 5]), shapes=shapes)
    assert (result.flops, result.execution, result.notes) == (products([3, 5]), "shapes", ())


@KERNELS
def test_inputs_that_were_made_without_data(kernel):
    with shape_only():
        cu = offsets([3, 5])
    x = tokens([3, 5])
    assert measure(lambda x, cu: kernel(x, x, cu, cu), (x, cu)).flops == products([3, 5])
    assert measure(lambda x: kernel(x, x, cu, cu), x).flops == products([3, 5])


class TestMasked:
    """The pairs that causal masks and windows leave in each sequence. FlashAttention aligns them at the lower right."""

    QUERIES, KEYS = [2, 7, 4], [9, 3, 4]

    def left(self, window):
        before, after = (10**6 if side < 0 else side for side in window)
        return sum(
            query + keys - queries - before <= key <= query + keys - queries + after
            for queries, keys in zip(self.QUERIES, self.KEYS, strict=True)
            for query in range(queries)
            for key in range(keys)
        )

    def args(self):
        return tokens(self.QUERIES), tokens(self.KEYS), offsets(self.QUERIES), offsets(self.KEYS)

    @pytest.mark.parametrize("window", [(-1, 0), (2, 0), (0, 0), (1, 3), (-1, -1)], ids=str)
    def test_windows(self, window):
        result = counted(attend, *self.args(), kwargs={"window_size": window})
        assert result.masked_flops == 2 * 2 * HEADS * WIDTH * self.left(window)
        assert result.flops == products(self.QUERIES, self.KEYS)

    def test_backward(self):
        query, key, *cu = self.args()
        query.requires_grad_(), key.requires_grad_()
        result = counted(attend, query, key, *cu, kwargs={"window_size": (-1, 0)}, backward=True)
        assert result.masked_flops == 3 * 2 * 2 * HEADS * WIDTH * self.left((-1, 0))

    def test_both_alignments_of_the_efficient_kernel(self):
        def attention(query, key, cu_q, cu_k, kind):
            options = None, cu_q, cu_k, 9, 9, 0.0, kind
            return aten._efficient_attention_forward(query[None], key[None], key[None], *options)[0]

        upper = sum(min(i + 1, k) for q, k in zip(self.QUERIES, self.KEYS, strict=True) for i in range(q))
        for kind, expected in ((0, pairs(self.QUERIES, self.KEYS)), (1, upper), (2, self.left((-1, 0)))):
            result = counted(attention, *self.args(), kind)
            assert result.masked_flops == 2 * 2 * HEADS * WIDTH * expected

    def test_unknown_lengths(self):
        args = [item.to("meta") for item in self.args()]
        result = counted(attend, *args, kwargs={"window_size": (-1, 0)})
        assert result.masked_flops == result.flops
        assert any("masked_flops counts all pairs" in note for note in result.notes)
