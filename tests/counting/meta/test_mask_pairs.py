"""Pairs that masks leave, counted without making the masks, against masks that are made."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 -- its usual name
from zoo import on_shapes

#: More queries and keys than masks that are computed at once.
QUERIES, KEYS = 200, 333


def share(make, *args):
    """Return the share of pairs that a mask leaves, as a run on shapes counts it."""

    def attention(query, key, *others):
        mask = make(*others)
        return F.scaled_dot_product_attention(query, key, key, attn_mask=mask)

    mask = make(*args)
    query, key = (torch.empty(*mask.shape[:-2], length, 1, device="meta") for length in mask.shape[-2:])
    found = on_shapes(attention, (query, key, *args))
    assert not found.notes
    return Fraction(found.masked_flops, found.flops)


def positions():
    return torch.arange(QUERIES)[:, None], torch.arange(KEYS)


def compared(compare):
    return lambda *others: compare(*positions(), *others)


DOCUMENTS = torch.arange(9).repeat_interleave(torch.tensor([50, 3, 70, 1, 30, 100, 29, 40, 10]))
SCATTERED = torch.randperm(KEYS) % 7
MASKS = {
    "upper left": compared(lambda i, j: j <= i),
    "lower right": compared(lambda i, j: j <= i + (KEYS - QUERIES)),
    "window": compared(lambda i, j: (j <= i) & (i - j < 17)),
    "both sides": compared(lambda i, j: (i - j).abs() < 17),
    "chunks": compared(lambda i, j: (i // 16 == j // 16) & (j <= i)),
    "dilated": compared(lambda i, j: ((i - j) % 3 == 0) & (i >= j)),
    "prefix": compared(lambda i, j: torch.logical_or(j < 20, j <= i)),
    "sinks and a window": compared(lambda i, j: (j <= i) & ((j < 4) | ~(j < i - 30))),
    "not causal": compared(lambda i, j: ~(j > i)),
    "no pair": compared(lambda i, j: j < i - KEYS),
    "all pairs": compared(lambda i, j: j >= i - KEYS),
    "numbers": compared(lambda i, j: torch.where(j <= i, 0.0, -torch.inf)),
    "products": compared(lambda i, j: (1.0 - (j <= i).float()) * torch.finfo(torch.float32).min),
    "half precision": compared(lambda i, j: torch.zeros(QUERIES, KEYS).masked_fill(j > i, -1e9).half().float()),
    "triangle": lambda: torch.ones(QUERIES, KEYS, dtype=torch.bool).tril(5),
    "upper triangle": lambda: torch.full((QUERIES, KEYS), -torch.inf).triu(1),
    "upper triangle in place": lambda: torch.empty(QUERIES, KEYS).fill_(-torch.inf).triu_(-3),
    "a part of a triangle": lambda: torch.ones(1, 1, 400, 400).tril()[:, :, :QUERIES, :KEYS] != 0,
    "every second row": lambda: torch.ones(400, KEYS, dtype=torch.bool).tril()[::2],
    "transposed": lambda: torch.ones(KEYS, QUERIES, dtype=torch.bool).triu().t(),
    "shifted": lambda: torch.ones(400, 400, dtype=torch.bool).tril()[100 : 100 + QUERIES, 50 : 50 + KEYS],
}


@pytest.mark.parametrize("make", MASKS.values(), ids=MASKS)
def test_masks_of_positions(make):
    mask = make()
    mask = mask if mask.dtype is torch.bool else mask > -1e8
    assert share(make) == Fraction(int(mask.sum()), mask.numel())


@pytest.mark.parametrize("values", [DOCUMENTS, SCATTERED], ids=["documents", "scattered"])
def test_masks_of_tables(values):
    def make(table):
        i, j = positions()
        return (table[i] == table[j]) & (j <= i)

    mask = make(values)
    assert share(make, values) == Fraction(int(mask.sum()), mask.numel())


def test_padding_differs_in_a_batch():
    def make(padding):
        return compared(lambda i, j: j <= i)() & padding[:, None, None, :]

    padding = torch.arange(KEYS) < torch.tensor([[KEYS], [100], [7]])
    mask = make(padding)
    assert share(make, padding) == Fraction(int(mask.sum()), mask.numel())


def test_a_mask_of_each_head():
    def make():
        i, j = positions()
        return (j <= i) & (i - j < torch.tensor([5, 60])[:, None, None])

    mask = make()
    assert share(make) == Fraction(int(mask.sum()), mask.numel())


@pytest.mark.parametrize("length", [131_072, 200_003])
def test_long_sequences(length):
    """No mask of so many queries and keys fits into memory."""

    def windowed(query, key):
        i, j = torch.arange(length)[:, None], torch.arange(length)
        mask = (j <= i) & (j > i - 4096)
        return F.scaled_dot_product_attention(query, key, key, attn_mask=mask)

    def triangle(query, key):
        mask = torch.full((length, length), -torch.inf).triu_(1)
        return F.scaled_dot_product_attention(query, key, key, attn_mask=mask)

    operand = torch.empty(1, 1, length, 1, device="meta")
    assert on_shapes(windowed, (operand, operand)).masked_flops == 4 * (4096 * length - 4096 * 4095 // 2)
    assert on_shapes(triangle, (operand, operand)).masked_flops == 4 * (length * (length + 1) // 2)


def test_writes_that_cannot_be_followed():
    """If a model writes to a part of a mask, its values are not known any more."""

    def attention(query, key):
        mask = torch.ones(QUERIES, KEYS, dtype=torch.bool).tril()
        mask[:, :10] = True
        return F.scaled_dot_product_attention(query, key, key, attn_mask=mask)

    found = on_shapes(attention, (torch.empty(1, 1, QUERIES, 1), torch.empty(1, 1, KEYS, 1)))
    assert found.masked_flops == found.flops
    assert "the values of the mask are not known" in found.notes[0]
