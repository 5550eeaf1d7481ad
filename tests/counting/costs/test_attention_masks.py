"""The pairs (query, key) that masks of attention leave, against masks that are made and counted."""

from __future__ import annotations

import pytest
import torch

from pytest_flopsbudget.counting.costs.attention_masks import band_pairs

aten = torch.ops.aten


def pairs_by_hand(queries, keys, left, right, shift):
    """Count the pairs one by one."""
    return sum(
        (left is None or key >= query + shift - left) and (right is None or key <= query + shift + right)
        for query in range(queries)
        for key in range(keys)
    )


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (7, 7), (4, 9), (9, 4), (0, 3), (3, 0)])
@pytest.mark.parametrize("shift", [0, "lower right", 2])
def test_pairs_in_a_band(queries, keys, shift):
    shift = keys - queries if shift == "lower right" else shift
    for left in (None, 0, 1, 3, 20):
        for right in (None, 0, 2, 20):
            expected = pairs_by_hand(queries, keys, left, right, shift)
            assert band_pairs(queries, keys, left=left, right=right, shift=shift) == expected


@pytest.mark.parametrize("length", [1, 16, 131_072, 2**40])
def test_closed_forms(length):
    assert band_pairs(length, length, right=0) == length * (length + 1) // 2
    for window in (1, 8, 4096):
        pairs = window * length - window * (window - 1) // 2 if length >= window else length * (length + 1) // 2
        assert band_pairs(length, length, left=window - 1, right=0) == pairs
