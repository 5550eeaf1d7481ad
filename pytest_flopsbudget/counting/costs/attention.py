"""Attention, fused in any way: 2·B·H·Lq·Lk·(Dqk + Dv), H being the *query's* heads; causal counted in full.

Source: Q·Kᵀ sums Dqk products for each of Lq·Lk scores of a head, the weighted sum of V Lk products for each of Lq·Dv
outputs (Vaswani et al., "Attention Is All You Need", 2017, §3.2.1). The backward pass is four such products, twice the
forward; the score product that a fused kernel computes once more is its own choice and not counted.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.registry import formula, per_mac

if TYPE_CHECKING:
    import torch

    from pytest_flopsbudget.counting.costs.registry import Call


def _heads_first(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> int:
    """Query (…, H, Lq, Dqk), key (…, Hk, Lk, Dqk), value (…, Hk, Lk, Dv)."""
    return per_mac(query) * query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


@formula(
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention",
    "aten._scaled_dot_product_fused_attention_overrideable",
    "aten._scaled_dot_product_attention_math_for_mps",
)
def _attention(call: Call) -> int:
    return _heads_first(call.tensor("query"), call.tensor("key"), call.tensor("value"))


@formula("aten._triton_scaled_dot_attention")
def _triton_attention(call: Call) -> int:
    return _heads_first(call.tensor("q"), call.tensor("k"), call.tensor("v"))


@formula(
    "aten._scaled_dot_product_flash_attention_backward",
    "aten._scaled_dot_product_flash_attention_for_cpu_backward",
    "aten._scaled_dot_product_efficient_attention_backward",
    "aten._scaled_dot_product_cudnn_attention_backward",
    "aten._scaled_dot_product_fused_attention_overrideable_backward",
)
def _attention_backward(call: Call) -> int:
    return 2 * _attention(call)


def _ends(offsets: torch.Tensor | None) -> list[int] | None:
    """Sequence ends of a packed batch, where they are known."""
    if offsets is None or offsets.is_meta:
        return None
    return [int(end) for end in offsets.tolist()]


def _length_first(call: Call, query_ends: torch.Tensor | None, key_ends: torch.Tensor | None, longest: int) -> int:
    """Query (B, Lq, H, Dqk), or packed sequences (all tokens, H, Dqk) that end where the offsets say.

    Without values in the offsets, every query meets as many keys as the longest sequence has.
    """
    query, key, value = call.tensor("query"), call.tensor("key"), call.tensor("value")
    width = query.shape[-1] + value.shape[-1]
    heads = query.shape[-2]
    if query_ends is None:
        batch = query.shape[:-3].numel()
        return per_mac(query) * batch * heads * query.shape[-3] * key.shape[-3] * width
    ends, other_ends = _ends(query_ends), _ends(key_ends)
    if ends is None or other_ends is None:
        return per_mac(query) * query.shape[:-2].numel() * heads * longest * width
    pairs = sum(
        (stop - start) * (other_stop - other_start)
        for (start, stop), (other_start, other_stop) in zip(
            itertools.pairwise(ends), itertools.pairwise(other_ends), strict=True
        )
    )
    return per_mac(query) * pairs * heads * width


@formula("aten._flash_attention_forward")
def _flash_attention(call: Call) -> int:
    return _length_first(call, call["cum_seq_q"], call["cum_seq_k"], int(call["max_k"]))


@formula("aten._flash_attention_backward")
def _flash_attention_backward(call: Call) -> int:
    return 2 * _flash_attention(call)


@formula("aten._efficient_attention_forward")
def _efficient_attention(call: Call) -> int:
    return _length_first(call, call["cu_seqlens_q"], call["cu_seqlens_k"], int(call["max_seqlen_k"] or 0))


@formula("aten._efficient_attention_backward")
def _efficient_attention_backward(call: Call) -> int:
    return 2 * _length_first(call, call["cu_seqlens_q"], call["cu_seqlens_k"], int(call["max_seqlen_k"]))


def _multi_head(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> int:
    """Projections of query, key, value and output, and attention over all heads; each operand (B, L, E)."""
    batch, queries, width = query.shape
    keys = key.shape[1]
    projections = 2 * batch * (2 * queries + keys + value.shape[1]) * width * width
    return projections + 2 * batch * queries * keys * 2 * width


@formula("aten._native_multi_head_attention", "aten._triton_multi_head_attention")
def _native_multi_head_attention(call: Call) -> int:
    return _multi_head(call.tensor("query"), call.tensor("key"), call.tensor("value"))


@formula("aten._transformer_encoder_layer_fwd")
def _transformer_encoder_layer(call: Call) -> int:
    """Self-attention, then the two layers of the feed-forward network."""
    source = call.tensor("src")
    tokens = source.shape[0] * source.shape[1]
    feed_forward = 2 * tokens * (call.tensor("ffn_weight_1").numel() + call.tensor("ffn_weight_2").numel())
    return _multi_head(source, source, source) + feed_forward
