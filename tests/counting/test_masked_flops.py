"""The FLOPs that masks of attention leave, in every way of counting, against masks that are made and counted."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its usual name
from torch.nn.attention.bias import causal_lower_right, causal_upper_left
from zoo import for_real, on_shapes

from pytest_flopsbudget import law, measure, watch

BATCH, HEADS, WIDTH = 2, 4, 8


def heads(length, count=HEADS, *, gradient=True):
    return torch.randn(BATCH, count, length, WIDTH, requires_grad=gradient)


def flops_of(pairs):
    """Return the FLOPs of attention for this number of pairs of a query and a key, in each head and batch."""
    return 2 * BATCH * HEADS * pairs * 2 * WIDTH


def watched(function, args, kwargs=None, *, backward=False):
    with watch() as seen:
        output = function(*args, **(kwargs or {}))
        if backward:
            output.sum().backward()
    return seen.complexity


WAYS = (on_shapes, for_real, watched)


def check(function, args, pairs, *, of, kwargs=None):
    """Check the FLOPs of ``pairs`` out of ``of`` pairs, forward and backward, in every way of counting."""
    for way in WAYS:
        found = way(function, args, kwargs, backward=True)
        for phase, times in (("forward", 1), ("backward", 2)):
            counted = found.phases[phase]
            assert (counted.flops, counted.masked_flops) == (times * flops_of(of), times * flops_of(pairs)), way
        assert found.masked_flops == 3 * flops_of(pairs)
        assert not found.notes


def attend(query, key, value, **options):
    return F.scaled_dot_product_attention(query, key, value, **options)


def left(mask):
    return int(mask.sum())


def causal(queries, keys, shift=0):
    return torch.ones(queries, keys, dtype=torch.bool).tril(shift)


class TestFused:
    @pytest.mark.parametrize(("queries", "keys"), [(40, 40), (30, 70), (70, 30)])
    @pytest.mark.parametrize("dropout", [0.0, 0.1])  # with dropout, the CPU has no fused kernel
    def test_is_causal(self, queries, keys, dropout):
        args = heads(queries), heads(keys), heads(keys)
        options = {"is_causal": True, "dropout_p": dropout}
        check(attend, args, left(causal(queries, keys)), of=queries * keys, kwargs=options)

    @pytest.mark.filterwarnings("ignore:Lower right causal bias")
    @pytest.mark.parametrize(("queries", "keys"), [(40, 40), (30, 70), (70, 30)])
    def test_both_alignments(self, queries, keys):
        args = heads(queries), heads(keys), heads(keys)
        for bias, shift in ((causal_upper_left(queries, keys), 0), (causal_lower_right(queries, keys), keys - queries)):
            mask = causal(queries, keys, shift)
            check(attend, args, left(mask), of=queries * keys, kwargs={"attn_mask": bias})

    def test_one_query_sees_one_key_or_all(self):
        """A decoded token that is causal sees one key in the upper-left alignment, and all in the lower-right one."""
        query, key = heads(1, gradient=False), heads(50, gradient=False)
        assert on_shapes(attend, (query, key, key), {"is_causal": True}).masked_flops == flops_of(1)
        lower_right = {"attn_mask": causal_lower_right(1, 50)}
        assert on_shapes(attend, (query, key, key), lower_right).masked_flops == flops_of(50)

    def test_fewer_heads_of_keys(self):
        args = heads(40), heads(40, 2), heads(40, 2)
        check(attend, args, 40 * 41 // 2, of=40 * 40, kwargs={"is_causal": True, "enable_gqa": True})

    @pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
    def test_a_mask_of_the_caller(self, dtype):
        mask = torch.rand(BATCH, 1, 30, 40) < 0.3
        given = mask if dtype is torch.bool else torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
        for way in WAYS:
            found = way(attend, (heads(30), heads(40), heads(40)), {"attn_mask": given})
            assert found.masked_flops * mask.numel() == found.flops * left(mask)

    def test_a_bias_is_no_mask(self):
        # A bias by distance (ALiBi) only lowers scores.
        bias = -torch.arange(40.0) * 100
        for way in WAYS:
            found = way(attend, (heads(40), heads(40), heads(40)), {"attn_mask": bias.expand(40, 40)})
            assert found.masked_flops == found.flops
            assert "masked_flops" not in found.metrics

    def test_unknown_values(self):
        """A mask without data leaves all pairs; one note names the first module and operator."""
        layer = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2).to("meta")
        mask = torch.empty(20, 20, dtype=torch.bool, device="meta")
        for training in (True, False):
            layer.train(training)
            found = measure(layer, torch.empty(1, 20, 32, device="meta"), {"mask": mask, "is_causal": False})
            assert found.masked_flops == found.flops
            (note,) = found.notes
            assert note.startswith("masked_flops counts all pairs in layers.0.self_attn (aten.")
            assert " and 1 more call: the values of the mask are not known" in note


def unfused(query, key, value, mask, *, fill=None, dropout=0.0):
    scores = query @ key.transpose(-2, -1) * WIDTH**-0.5
    if fill is None:
        scores = scores + mask
    elif mask.dtype is torch.bool:
        scores = scores.masked_fill(~mask, fill)
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return F.dropout(weights, dropout) @ value


class TestUnfused:
    """Attention that consists of single operators has the products of the fused kernel."""

    @pytest.mark.parametrize("fill", [-torch.inf, -1e9, torch.finfo(torch.float32).min, -1e4])
    def test_filled_scores(self, fill):
        mask = causal(40, 50, 10)
        check(unfused, (heads(40), heads(50), heads(50), mask), left(mask), of=2000, kwargs={"fill": fill})

    @pytest.mark.parametrize("number", [-torch.inf, -1e9, torch.finfo(torch.float32).min])
    def test_added_numbers(self, number):
        mask = causal(40, 40)
        added = torch.zeros(40, 40).masked_fill(~mask, number)
        check(unfused, (heads(40), heads(40), heads(40), added), left(mask), of=1600, kwargs={"dropout": 0.1})

    def test_in_place(self):
        def attention(query, key, value):
            scores = query @ key.transpose(-2, -1)
            scores.add_(torch.full(scores.shape[-2:], -torch.inf).triu_(1))
            return scores.softmax(-1) @ value

        check(attention, (heads(40), heads(40), heads(40)), 40 * 41 // 2, of=1600)

    def test_two_masks(self):
        """Of several masks, the pairs count that all of them leave."""

        def attention(query, key, value, padding):
            scores = (query @ key.transpose(-2, -1)).masked_fill(~causal(40, 40), -torch.inf)
            return torch.where(padding, scores, torch.finfo(scores.dtype).min).softmax(-1) @ value

        padding = torch.arange(40) < 25
        both = causal(40, 40) & padding
        check(attention, (heads(40), heads(40), heads(40), padding), left(both), of=1600)

    def test_a_table_of_the_model(self):
        """A part of a larger table, as GPT-2 and its copies hold one."""

        class Attention(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("bias", torch.tril(torch.ones(64, 64)).view(1, 1, 64, 64))

            def forward(self, query, key, value):
                scores = query @ key.transpose(-2, -1)
                length = query.shape[-2]
                return scores.masked_fill(self.bias[:, :, :length, :length] == 0, -torch.inf).softmax(-1) @ value

        check(Attention(), (heads(40), heads(40), heads(40)), 40 * 41 // 2, of=1600)

    def test_a_learned_bias_beside_a_mask(self):
        def attention(query, key, value, bias):
            mask = torch.zeros(40, 40).masked_fill(~causal(40, 40), -torch.inf)
            return (query @ key.transpose(-2, -1) + (bias + mask)).softmax(-1) @ value

        bias = nn.Parameter(torch.randn(1, HEADS, 40, 40))
        check(attention, (heads(40), heads(40), heads(40), bias), 40 * 41 // 2, of=1600)

    def test_without_a_mask(self):
        for way in WAYS:
            found = way(unfused, (heads(40), heads(40), heads(40), torch.zeros(40, 40)), backward=True)
            assert found.masked_flops == found.flops == 3 * flops_of(1600)

    def test_scores_that_are_read_twice(self):
        """Weights that enter two products are left out of both, and their first product counts once."""

        def attention(query, key, value):
            weights = unfused(query, key, torch.eye(40).expand(BATCH, HEADS, 40, 40), causal(40, 40), fill=-torch.inf)
            return weights @ value

        found = on_shapes(attention, (heads(40), heads(40), heads(40)))
        product = 2 * BATCH * HEADS
        # The output of the product with the unit matrix is no tensor of weights any more.
        pairs = 40 * 41 // 2
        assert found.masked_flops == product * (pairs * WIDTH + pairs * 40 + 40 * 40 * WIDTH)


class TestModules:
    PROJECTIONS = 2 * BATCH * 20 * 32 * 32 * 4
    FEED_FORWARD = 2 * BATCH * 20 * 32 * 64 * 2
    MASK = nn.Transformer.generate_square_subsequent_mask(20)
    #: FLOPs of two products for each pair, in all heads and batches.
    PAIR = 2 * BATCH * 32 * 2

    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("needs_weights", [False, True])
    @pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
    def test_multi_head_attention(self, training, needs_weights, dtype):
        layer = nn.MultiheadAttention(32, 4, batch_first=True).train(training)
        mask = self.MASK if dtype is torch.float32 else self.MASK.isinf()
        x = torch.randn(BATCH, 20, 32)
        for way in WAYS:
            options = {"attn_mask": mask, "need_weights": needs_weights}
            with torch.no_grad():
                found = way(layer, (x, x, x), options)
            assert found.masked_flops == self.PROJECTIONS + self.PAIR * (20 * 21 // 2)
            assert found.flops == self.PROJECTIONS + self.PAIR * 400

    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("grad", [False, True])
    def test_encoder_layer(self, training, grad):
        """Of PyTorch's fused encoder layer, which runs in evaluation, only attention is masked."""
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True).train(training)
        x = torch.randn(BATCH, 20, 32)
        padding = torch.arange(20) >= torch.tensor([[20], [12]])
        for options, pairs in (
            ({"src_mask": self.MASK}, 20 * 21 // 2 * BATCH),
            ({"src_key_padding_mask": padding}, 20 * 20 + 20 * 12),
        ):
            for way in WAYS:
                with torch.set_grad_enabled(grad):
                    found = way(layer, (x,), options)
                expected = self.PROJECTIONS + self.FEED_FORWARD + self.PAIR // BATCH * pairs
                assert found.masked_flops == expected, (way, options)


class TestWindows:
    """Masks that models compare positions for, as transformers does."""

    LENGTH = 70

    def masked(self, compare):
        def attention(query, key, value):
            rows = torch.arange(query.shape[-2])[None, None, :, None]
            columns = torch.arange(key.shape[-2])[None, None, None, :]
            mask = (rows.new_ones((), dtype=torch.bool) & compare(rows, columns)).expand(BATCH, -1, -1, -1)
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

        return attention

    @pytest.mark.parametrize("window", [1, 16, 70, 200])
    def test_sliding(self, window):
        length = self.LENGTH
        pairs = window * length - window * (window - 1) // 2 if length >= window else length * (length + 1) // 2
        args = heads(length), heads(length), heads(length)
        check(self.masked(lambda i, j: (j <= i) & (j > i - window)), args, pairs, of=length**2)

    def test_chunks(self):
        args = heads(70), heads(70), heads(70)
        pairs = 4 * (16 * 17 // 2) + 6 * 7 // 2  # 70 = 4 chunks of 16, and 6
        check(self.masked(lambda i, j: (j <= i) & (j // 16 == i // 16)), args, pairs, of=4900)

    def test_packed_sequences(self):
        lengths = (30, 25, 15)
        document = torch.arange(3).repeat_interleave(torch.tensor(lengths))
        args = heads(70), heads(70), heads(70)
        pairs = sum(length * (length + 1) // 2 for length in lengths)
        check(self.masked(lambda i, j: (j <= i) & (document[i] == document[j])), args, pairs, of=4900)

    def test_both_directions(self):
        args = heads(70), heads(70), heads(70)
        pairs = 70 + 2 * sum(70 - apart for apart in range(1, 11))
        check(self.masked(lambda i, j: (i - j).abs() <= 10), args, pairs, of=4900)


def test_a_checkpointed_region_is_masked_each_time():
    def attention(query, key, value):
        return torch.utils.checkpoint.checkpoint(attend, query, key, value, is_causal=True, use_reentrant=False)

    args = heads(40), heads(40), heads(40)
    found = on_shapes(attention, args, backward=True)
    assert (found.flops, found.masked_flops) == (4 * flops_of(1600), 4 * flops_of(820))
    assert found.recomputed_flops == flops_of(1600)


def test_laws():
    """S·(S + 1)/2 pairs of a causal mask; with a window of 64, from S = 64 on, 64·S - 2016."""

    def windowed(query, key, value):
        i, j = torch.arange(query.shape[-2])[:, None], torch.arange(key.shape[-2])
        return F.scaled_dot_product_attention(query, key, value, attn_mask=(j <= i) & (i - j < 64))

    def inputs(length):
        return (torch.empty(1, 1, length, 1, device="meta"),) * 3

    found = law(lambda *args: attend(*args, is_causal=True), inputs, length=range(1, 2049))
    assert str(found["flops"]) == "4·L²"
    assert str(found["masked_flops"]) == "2·L² + 2·L"
    found = law(windowed, inputs, length=range(64, 2049))
    assert str(found["masked_flops"]) == "256·L - 8,064"
    found = law(attend, inputs, length=range(1, 2049))
    assert "masked_flops" not in list(found.modules[""])
