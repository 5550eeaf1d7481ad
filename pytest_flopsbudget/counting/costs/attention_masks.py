"""The FLOPs of fused attention for the pairs (query, key) that its masks leave: the metric `masked_flops`.

Each pair costs the same: Dqk products for its score, and Dv products with the value, twice that in the backward pass.
So the FLOPs of attention are multiplied by the share of the pairs that are left. A causal mask of S queries and keys
leaves S·(S + 1)/2 of S² pairs. A window of w keys, the query's own key included, leaves w·S - w·(w - 1)/2 for S ≥ w.

If queries and keys are not equally many, a causal mask has one of two alignments. Upper left: query i sees the keys
0 … i, as with PyTorch's ``is_causal``. Lower right: the last query sees all keys, as in FlashAttention since version
2.1.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.attention import (
    KEY_OFFSETS,
    QUERY_OFFSETS,
    argument,
    known_integers,
    lengths_between,
    used_keys,
)
from pytest_flopsbudget.counting.costs.registry import operator

if TYPE_CHECKING:
    import torch

    from pytest_flopsbudget.counting.costs.registry import Call, Kept


def band_pairs(queries: int, keys: int, *, left: int | None = None, right: int | None = None, shift: int = 0) -> int:
    """Return the number of pairs (i, j) of a query and a key with i + shift - left ≤ j ≤ i + shift + right.

    Args:
        queries: the number of queries i.
        keys: the number of keys j.
        left: None for no limit.
        right: None for no limit; 0 for a causal mask.
        shift: 0 for the upper-left alignment, ``keys - queries`` for the lower-right alignment.
    """
    until = queries * keys if right is None else _sum_of_clamped(queries, keys, shift + right + 1)
    before = 0 if left is None else _sum_of_clamped(queries, keys, shift - left)
    return until - before


def _sum_of_clamped(count: int, highest: int, first: int) -> int:
    """Return the sum of min(max(first + i, 0), highest) over i = 0 … count - 1."""
    start = min(max(0, -first), count)  # the terms before are 0
    stop = max(start, min(count, highest - first))  # the terms from here on are ``highest``
    rising = (stop - start) * (2 * first + start + stop - 1) // 2
    return rising + (count - stop) * highest


def _scaled(flops: int, share: Fraction) -> int:
    return flops * share.numerator // share.denominator


def _share(pairs: int, of: int) -> Fraction:
    return Fraction(pairs, of) if of else Fraction(1)


def _masked_attention(call: Call, kept: Kept, flops: int) -> int | None:
    query, key = call.tensor("query", "q"), call.tensor("key", "k")
    queries, keys = query.shape[-2], key.shape[-2]
    share = Fraction(1)
    if argument(call, "is_causal"):
        share = _share(band_pairs(queries, keys, right=0), queries * keys)
    mask = argument(call, "attn_mask", "attn_bias")
    if mask is not None:
        left = kept(mask, drops=False)
        if left is None:
            return None
        share = min(share, left)
    return _scaled(flops, share)


def _window(call: Call, keys: int, queries: int) -> tuple[int | None, int | None, int]:
    """Return (left, right, shift) of `band_pairs` for one sequence of packed attention.

    FlashAttention aligns causal masks and windows at the lower right. The memory-efficient kernel has masks of both
    alignments (types 1 and 2), and its window includes the query's own key.
    """
    if "custom_mask_type" in call.names:
        kind = int(call["custom_mask_type"])
        window = argument(call, "window_size")
        left = None if not window or not kind else int(window) - 1
        return left, 0 if kind else None, keys - queries if kind == 2 else 0  # noqa: PLR2004 -- PyTorch's number
    sizes = argument(call, "window_size") or (argument(call, "window_size_left"), argument(call, "window_size_right"))
    left, right = (None if size is None or size < 0 else int(size) for size in sizes)
    return left, 0 if argument(call, "is_causal") else right, keys - queries


def _masked_packed_attention(call: Call, kept: Kept, flops: int) -> int | None:
    """Count packed sequences one by one. If their lengths are unknown, the masks in them are unknown too."""
    query, key = call.tensor("query"), call.tensor("key")
    lengths = _sequences(call, query, key)
    if lengths is None:
        return flops if _window(call, 1, 1) == (None, None, 0) else None
    pairs = whole = 0
    for queries, keys in lengths:
        left, right, shift = _window(call, keys, queries)
        pairs += band_pairs(queries, keys, left=left, right=right, shift=shift)
        whole += queries * keys
    share = _share(pairs, whole)
    bias = argument(call, "bias", "attn_bias")
    if bias is not None:
        left_by_bias = kept(bias, drops=False)
        if left_by_bias is None:
            return None
        share = min(share, left_by_bias)
    return _scaled(flops, share)


def _sequences(call: Call, query: torch.Tensor, key: torch.Tensor) -> list[tuple[int, int]] | None:
    """Return (queries, keys) of each sequence; None if the lengths are not known."""
    offsets = argument(call, *QUERY_OFFSETS)
    if offsets is None:
        return [(query.shape[-3], key.shape[-3])]
    of_queries = lengths_between(offsets)
    used = used_keys(call)
    of_keys = lengths_between(argument(call, *KEY_OFFSETS)) if used is None else known_integers(used)
    if of_queries is None or of_keys is None:
        return None
    return list(zip(of_queries, of_keys, strict=True))


def _masked_multi_head(call: Call, kept: Kept, flops: int) -> int | None:
    query = call.tensor("query")
    return _without_masked_pairs(call, kept, flops, query, query.shape[1], call.tensor("key").shape[1])


def _masked_encoder_layer(call: Call, kept: Kept, flops: int) -> int | None:
    source = call.tensor("src")
    return _without_masked_pairs(call, kept, flops, source, source.shape[1], source.shape[1])


def _without_masked_pairs(  # noqa: PLR0913, PLR0917 -- the sizes of one call
    call: Call, kept: Kept, flops: int, query: torch.Tensor, queries: int, keys: int
) -> int | None:
    """Return ``flops`` without the products of the pairs that the mask drops. Projections count in full.

    A boolean mask is true where a pair is dropped. A mask of type 1 is (batch, keys), and holds for all queries.
    """
    mask = argument(call, "mask", "src_mask")
    if mask is None:
        return flops
    of_keys = argument(call, "mask_type") == 1
    share = kept(mask[:, None, None, :] if of_keys and mask.ndim == 2 else mask, drops=True)  # noqa: PLR2004
    attention = 2 * query.shape[0] * queries * keys * 2 * query.shape[-1]
    return None if share is None else flops - attention + _scaled(attention, share)


operator(
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention",
    "aten._scaled_dot_product_fused_attention_overrideable",
    "aten._scaled_dot_product_attention_math_for_mps",
    "aten._scaled_dot_product_cudnn_attention_backward",
    "aten._scaled_dot_product_efficient_attention_backward",
    "aten._scaled_dot_product_flash_attention_backward",
    "aten._scaled_dot_product_flash_attention_for_cpu_backward",
    "aten._scaled_dot_product_fused_attention_overrideable_backward",
    masked=_masked_attention,
)
operator(
    "aten._flash_attention_forward",
    "aten._flash_attention_forward_no_dropout_inplace",
    "aten._efficient_attention_forward",
    "torch_attn._varlen_attn",
    "torch_attn._varlen_attn_out",
    "aten._flash_attention_backward",
    "aten._efficient_attention_backward",
    "torch_attn._varlen_attn_backward",
    masked=_masked_packed_attention,
)


def _masked_cudnn(call: Call, kept: Kept, flops: int) -> int | None:
    packed = call.tensor("query").ndim == 3  # noqa: PLR2004 -- tokens, heads, width
    return (_masked_packed_cudnn if packed else _masked_attention)(call, kept, flops)


def _masked_packed_cudnn(call: Call, kept: Kept, flops: int) -> int | None:
    """Count packed sequences one by one. cuDNN aligns causal masks at the upper left."""
    del kept
    if not argument(call, "is_causal"):
        return flops
    lengths = _sequences(call, call.tensor("query"), call.tensor("key"))
    if lengths is None:
        return None
    pairs = sum(band_pairs(queries, keys, right=0) for queries, keys in lengths)
    return _scaled(flops, _share(pairs, sum(queries * keys for queries, keys in lengths)))


operator("aten._cudnn_attention_forward", "aten._cudnn_attention_backward", masked=_masked_cudnn)
operator("aten._native_multi_head_attention", "aten._triton_multi_head_attention", masked=_masked_multi_head)
operator("aten._transformer_encoder_layer_fwd", masked=_masked_encoder_layer)
