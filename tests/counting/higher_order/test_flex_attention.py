"""In flex attention, only the blocks that the mask keeps are counted."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import flex_attention as module
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from zoo import both, for_real, on_shapes

from pytest_flopsbudget import measure

BATCH, HEADS, LENGTH, WIDTH, BLOCK = 2, 4, 256, 8, 64
#: Number of pairs of a query and a key.
PAIRS = BATCH * HEADS * LENGTH * LENGTH
#: FLOPs without a mask: two products, each with WIDTH multiply-accumulates for a pair.
DENSE = 2 * PAIRS * 2 * WIDTH


def heads(count=HEADS, length=LENGTH, *, gradient=False, device="cpu"):
    return torch.randn(BATCH, count, length, WIDTH, requires_grad=gradient, device=device)


QUERY, KEY, VALUE = heads(), heads(), heads()


def causal(batch, head, query, key):
    return query >= key


def block_mask(function=causal):
    return create_block_mask(function, None, None, LENGTH, LENGTH, device="cpu", BLOCK_SIZE=BLOCK)


class TestForward:
    @pytest.mark.parametrize("function", [flex_attention, torch.compile(flex_attention, backend="eager")])
    def test_dense(self, function):
        """If flex attention has no mask, all pairs of a query and a key are counted."""
        # Each score costs 1 FLOP for the scale and 5 for softmax.
        counted = both(function, (QUERY, KEY, VALUE))
        assert counted.flops == DENSE
        assert counted.other_flops == (1 + 5) * PAIRS
        assert not counted.notes

    def test_score_mod(self):
        # Arithmetic on positions is on integers and costs nothing.
        counted = both(
            lambda *args: flex_attention(*args, score_mod=lambda score, b, h, i, j: score * 2 + (i - j)),
            (QUERY, KEY, VALUE),
        )
        assert counted.other_flops == (1 + 2 + 5) * PAIRS

    def test_grouped_queries(self):
        counted = both(lambda *args: flex_attention(*args, enable_gqa=True), (QUERY, heads(2), heads(2)))
        assert counted.flops == DENSE

    def test_on_meta(self):
        """Flex attention can be measured on the meta device, although PyTorch refuses this device."""
        counted = measure(flex_attention, tuple(heads(device="meta") for _ in range(3)))
        assert (counted.flops, counted.execution) == (DENSE, "shapes")


class TestBlockMask:
    #: Blocks on and below the diagonal, and all blocks: there are 4 by 4 blocks.
    KEPT, ALL = 10, 16

    def test_as_an_argument(self):
        """If the mask is causal, only the blocks on and below the diagonal are counted."""
        counted = both(flex_attention, (QUERY, KEY, VALUE), {"block_mask": block_mask()})
        assert counted.flops == DENSE * self.KEPT // self.ALL
        assert counted.other_flops == 6 * PAIRS * self.KEPT // self.ALL
        assert counted.execution == "shapes"
        assert counted.notes == ("flex_attention is counted for the blocks that its mask keeps",)

    def test_full_blocks_count(self):
        # A block mask lists complete and partial blocks separately.
        mask = block_mask(lambda b, h, i, j: j < BLOCK)
        assert int(mask.kv_num_blocks.sum()) == 0
        counted = both(flex_attention, (QUERY, KEY, VALUE), {"block_mask": mask})
        assert counted.flops == DENSE // 4

    def test_of_each_head(self):
        """If a mask differs between heads, the blocks of each head are counted."""
        # The first head keeps all blocks. Each other head keeps a quarter of its blocks.
        mask = create_block_mask(
            lambda b, h, i, j: (h == 0) | (j < BLOCK), None, HEADS, LENGTH, LENGTH, device="cpu", BLOCK_SIZE=BLOCK
        )
        counted = both(flex_attention, (QUERY, KEY, VALUE), {"block_mask": mask})
        assert counted.flops == DENSE // HEADS + DENSE * (HEADS - 1) // HEADS // 4

    def test_not_known(self):
        """If a mask depends on data that are missing, all blocks are counted."""

        def forward(query, key, value, lengths):
            mask = create_block_mask(
                lambda b, h, i, j: j < lengths[b], BATCH, None, LENGTH, LENGTH, device=query.device, BLOCK_SIZE=BLOCK
            )
            return flex_attention(query, key, value, block_mask=mask)

        args = (*(heads(device="meta") for _ in range(3)), torch.empty(BATCH, dtype=torch.int64, device="meta"))
        counted = measure(forward, args)
        assert counted.flops == DENSE
        assert counted.notes == (
            "flex_attention is counted dense: which blocks its mask keeps is not known without data",
        )

    def test_with_data(self):
        """If a mask depends on data that are there, only the kept blocks are counted."""

        def forward(query, key, value, lengths):
            mask = create_block_mask(
                lambda b, h, i, j: j < lengths[b], BATCH, None, LENGTH, LENGTH, device="cpu", BLOCK_SIZE=BLOCK
            )
            return flex_attention(query, key, value, block_mask=mask)

        counted = for_real(forward, (QUERY, KEY, VALUE, torch.tensor([BLOCK, 2 * BLOCK])))
        assert counted.flops == DENSE * (1 + 2) // (2 * 4)


DOCUMENT = torch.arange(3).repeat_interleave(torch.tensor([100, 120, 36]))


class TestMaskedPairs:
    """`masked_flops` has the single pairs that the function of a mask leaves, not its blocks."""

    @pytest.mark.parametrize(
        "function",
        [
            causal,
            lambda b, h, i, j: (i >= j) & (i - j < 32),
            lambda b, h, i, j: (DOCUMENT[i] == DOCUMENT[j]) & (i >= j),
            lambda b, h, i, j: j < 3 * BLOCK,
        ],
        ids=["causal", "window", "documents", "whole blocks"],
    )
    @pytest.mark.parametrize("backward", [False, True])
    def test_functions(self, function, backward):
        rows, columns = torch.arange(LENGTH)[:, None], torch.arange(LENGTH)
        left = int(function(0, 0, rows, columns).expand(LENGTH, LENGTH).sum())
        args = tuple(heads(gradient=backward) for _ in range(3))
        ways = (on_shapes,) if backward else (on_shapes, for_real)  # PyTorch has no backward pass on CPUs
        for way in ways:
            counted = way(flex_attention, args, {"block_mask": block_mask(function)}, backward=backward)
            assert counted.masked_flops * LENGTH**2 == (3 if backward else 1) * DENSE * left

    def test_a_mask_in_score_mod(self):
        counted = both(
            lambda *args: flex_attention(
                *args, score_mod=lambda score, b, h, i, j: torch.where(i >= j, score, -float("inf"))
            ),
            (QUERY, KEY, VALUE),
        )
        assert counted.flops == DENSE
        assert counted.masked_flops == DENSE * (LENGTH + 1) // (2 * LENGTH)

    def test_a_mask_of_one_block(self):
        short = tuple(heads(length=50) for _ in range(3))
        mask = create_block_mask(causal, None, None, 50, 50, device="cpu")
        counted = both(flex_attention, short, {"block_mask": mask})
        assert counted.masked_flops * 100 == counted.flops * 51


class TestBackward:
    def test_dense(self):
        """The backward pass of flex attention costs four matrix products."""
        # Each score costs 1 FLOP for the scale and 4 for softmax. PyTorch has no such backward pass on CPUs.
        counted = on_shapes(flex_attention, tuple(heads(gradient=True) for _ in range(3)), backward=True)
        assert counted.flops == 3 * DENSE
        assert counted.other_flops == (1 + 5) * PAIRS + (1 + 4) * PAIRS

    def test_score_mod(self):
        counted = on_shapes(
            lambda *args: flex_attention(*args, score_mod=lambda score, b, h, i, j: score * 2),
            tuple(heads(gradient=True) for _ in range(3)),
            backward=True,
        )
        assert counted.other_flops == (1 + 1 + 5) * PAIRS + (1 + 1 + 4) * PAIRS

    def test_block_mask(self):
        args = (*(heads(gradient=True) for _ in range(3)),)
        counted = on_shapes(flex_attention, args, {"block_mask": block_mask()}, backward=True)
        assert counted.flops == 3 * DENSE * TestBlockMask.KEPT // TestBlockMask.ALL

    def test_grouped_queries(self):
        args = (heads(gradient=True), heads(2, gradient=True), heads(2, gradient=True))
        counted = on_shapes(lambda *args: flex_attention(*args, enable_gqa=True), args, backward=True)
        assert counted.flops == 3 * DENSE
        # Each of 2 groups has 2 heads, so there is one sum for each element of the shared key and value gradients.
        assert counted.other_flops == 11 * PAIRS + 2 * BATCH * 2 * LENGTH * WIDTH


def test_nothing_stays_patched():
    check = module._validate_device
    on_shapes(flex_attention, (QUERY, KEY, VALUE))
    assert module._validate_device is check
