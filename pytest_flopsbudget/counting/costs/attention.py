"""Attention, fused in any way: 2·B·H·Lq·Lk·(Dqk + Dv), H being the *query's* heads; causal counted in full.

Source: Q·Kᵀ sums Dqk products for each of Lq·Lk scores of a head, the weighted sum of V Lk products for each of Lq·Dv
outputs (Vaswani et al., "Attention Is All You Need", 2017, §3.2.1). The backward pass is four such products, twice the
forward; the score product that a fused kernel computes once more is its own choice and not counted. Nor are gradients
that nobody asked for, which a fused kernel computes all the same: the plain form leaves them out.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_flopsbudget.counting.costs.registry import operator, per_mac

if TYPE_CHECKING:
    import torch

    from pytest_flopsbudget.counting.costs.registry import Call


def _heads_first(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> int:
    """Query (…, H, Lq, Dqk), key (…, Hk, Lk, Dqk), value (…, Hk, Lk, Dv)."""
    return per_mac(query) * query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _attention(call: Call) -> int:
    return _heads_first(*_operands(call))


def _operands(call: Call) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return call.tensor("query", "q"), call.tensor("key", "k"), call.tensor("value", "v")


class _Asked(NamedTuple):
    """Of which operands the gradient is asked for."""

    query: bool
    key: bool
    value: bool
    #: Whether the gradient of the scores is needed in between.
    scores: bool


def _asked(call: Call) -> _Asked:
    """By the call's mask where it has one, else by what takes gradients; of all where nothing does (compiled code)."""
    mask = _argument(call, "grad_input_mask")
    if mask is not None:
        query, key, value, bias = mask
        return _Asked(query, key, value, query or key or bias)
    query, key, value = (call.tensor(name).requires_grad for name in ("query", "key", "value"))
    if not (query or key or value):
        return _Asked(query=True, key=True, value=True, scores=True)
    return _Asked(query, key, value, query or key)


def _attention_backward(call: Call) -> int:
    """The scores' gradient and the value's sum over or make Dv, the query's and the key's Dqk."""
    query, value = call.tensor("query"), call.tensor("value")
    asked = _asked(call)
    width = query.shape[-1] * (asked.query + asked.key) + value.shape[-1] * (asked.scores + asked.value)
    return per_mac(query) * _scores(query, call.tensor("key")) * width


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


def _flash_attention(call: Call) -> int:
    return _length_first(call, call["cum_seq_q"], call["cum_seq_k"], int(call["max_k"]))


def _flash_attention_backward(call: Call) -> int:
    return 2 * _flash_attention(call)


def _efficient_attention(call: Call) -> int:
    return _length_first(call, call["cu_seqlens_q"], call["cu_seqlens_k"], int(call["max_seqlen_k"] or 0))


def _efficient_attention_backward(call: Call) -> int:
    return 2 * _length_first(call, call["cu_seqlens_q"], call["cu_seqlens_k"], int(call["max_seqlen_k"]))


def _multi_head(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> int:
    """Projections of query, key, value and output, and attention over all heads; each operand (B, L, E)."""
    batch, queries, width = query.shape
    keys = key.shape[1]
    projections = 2 * batch * (2 * queries + keys + value.shape[1]) * width * width
    return projections + 2 * batch * queries * keys * 2 * width


def _native_multi_head_attention(call: Call) -> int:
    return _multi_head(call.tensor("query"), call.tensor("key"), call.tensor("value"))


def _transformer_encoder_layer(call: Call) -> int:
    """Self-attention, then the two layers of the feed-forward network."""
    source = call.tensor("src")
    tokens = source.shape[0] * source.shape[1]
    feed_forward = 2 * tokens * (call.tensor("ffn_weight_1").numel() + call.tensor("ffn_weight_2").numel())
    return _multi_head(source, source, source) + feed_forward


# What is no product. The plain form, which a fused kernel stands for: query and key times the root of the scale, so
# that neither outgrows its dtype; a mask added to the scores; softmax, 5 an element; dropout, 2.


def _scores(query: torch.Tensor, key: torch.Tensor) -> int:
    return query.shape[:-1].numel() * key.shape[-2]


def _scaled(query: torch.Tensor, key: torch.Tensor) -> int:
    """Every query head meets a key head of its own, however many of them share one."""
    return query.numel() + query.shape[:-2].numel() * key.shape[-2] * key.shape[-1]


def _argument(call: Call, *names: str) -> Any:
    return next((call[name] for name in names if name in call.names), None)


def _around_products(call: Call, query: torch.Tensor, key: torch.Tensor) -> int:
    is_masked = bool(_argument(call, "is_causal")) or _argument(call, "attn_mask", "attn_bias") is not None
    dropped = 2 if _argument(call, "dropout_p") else 0
    return _scaled(query, key) + (5 + is_masked + dropped) * _scores(query, key)


def _around(call: Call) -> int:
    query, key, _ = _operands(call)
    return _around_products(call, query, key)


def _around_backward(call: Call) -> int:
    """Softmax backward, 4 an element; both scales again; dropout 1; the sums over heads that share a key."""
    query, key, value = call.tensor("query"), call.tensor("key"), call.tensor("value")
    asked = _asked(call)
    dropped = 1 if _argument(call, "dropout_p") else 0
    shared = query.shape[-3] // key.shape[-3] if query.ndim > 2 else 1  # noqa: PLR2004 -- heads, length, width
    sums = (shared - 1) * (asked.key * key.numel() + asked.value * value.numel())
    scales = asked.query * query.numel() + asked.key * (_scaled(query, key) - query.numel())
    return scales + asked.scores * (4 + dropped) * _scores(query, key) + sums


def pairs(call: Call) -> int:
    """Pairs of a query and a key over all heads: FLOPs over what each pair costs."""
    query, value = call.tensor("query"), call.tensor("value")
    flops = _flash_attention(call) if "flash" in call.name else _efficient_attention(call)
    return flops // (per_mac(query) * (query.shape[-1] + value.shape[-1]))


def _around_packed(call: Call) -> int:
    query, key = call.tensor("query"), call.tensor("key")
    is_masked = bool(_argument(call, "is_causal", "custom_mask_type")) or _argument(call, "bias") is not None
    dropped = 2 if _argument(call, "dropout_p") else 0
    shared = query.shape[-2] // key.shape[-2]
    return query.numel() + shared * key.numel() + (5 + is_masked + dropped) * pairs(call)


def _around_packed_backward(call: Call) -> int:
    query, key = call.tensor("query"), call.tensor("key")
    dropped = 1 if _argument(call, "dropout_p") else 0
    shared = query.shape[-2] // key.shape[-2]
    sums = (shared - 1) * (key.numel() + call.tensor("value").numel())
    return query.numel() + shared * key.numel() + (4 + dropped) * pairs(call) + sums


def _around_multi_head(query: torch.Tensor, key: torch.Tensor, heads: int, *, masked: bool) -> int:
    """Biases of the four projections, query and key scaled, softmax and a mask over the scores of all heads."""
    batch, queries, width = query.shape
    keys = key.shape[1]
    biases = batch * (2 * queries + 2 * keys) * width
    return biases + batch * (queries + keys) * width + (5 + masked) * batch * heads * queries * keys


def _around_native(call: Call) -> int:
    masked = call["mask"] is not None
    return _around_multi_head(call.tensor("query"), call.tensor("key"), int(call["num_head"]), masked=masked)


def _around_encoder_layer(call: Call) -> int:
    """Attention, two residuals, two layer normalizations (7 an element); in the feed-forward network one activation."""
    source = call.tensor("src")
    inner = math.prod(source.shape[:-1]) * call.tensor("ffn_weight_1").shape[0]
    masked = call["mask"] is not None
    attention = _around_multi_head(source, source, int(call["num_heads"]), masked=masked)
    activation = 5 if call["use_gelu"] else 1
    return attention + (2 + 2 * 7 + 1) * source.numel() + (1 + activation) * inner


# Elements of the outputs of products.


def _outputs(call: Call) -> int:
    """Count scores (…, H, Lq, Lk) and weighted sums (…, H, Lq, Dv)."""
    query, key, value = _operands(call)
    return query.shape[:-1].numel() * (key.shape[-2] + value.shape[-1])


def _packed_outputs(call: Call) -> int:
    """Query (…, Lq, H, Dqk); of packed sequences each has scores only with itself."""
    query, value = call.tensor("query"), call.tensor("value")
    return pairs(call) + query.shape[:-1].numel() * value.shape[-1]


def _multi_head_outputs(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> int:
    """Operands (B, L, E): three projections, scores of every head, weighted sums, the output's projection."""
    batch, queries, width = query.shape
    keys = key.shape[1]
    projections = batch * width * (2 * queries + keys + value.shape[1])
    return projections + batch * queries * (heads * keys + width)


def _native_multi_head_outputs(call: Call) -> int:
    return _multi_head_outputs(call.tensor("query"), call.tensor("key"), call.tensor("value"), int(call["num_head"]))


def _encoder_layer_outputs(call: Call) -> int:
    """Count self-attention and the two layers of the feed-forward network."""
    source = call.tensor("src")
    widths = call.tensor("ffn_weight_1").shape[0] + call.tensor("ffn_weight_2").shape[0]
    attention = _multi_head_outputs(source, source, source, int(call["num_heads"]))
    return attention + source.shape[0] * source.shape[1] * int(widths)


operator(
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention",
    "aten._scaled_dot_product_fused_attention_overrideable",
    "aten._scaled_dot_product_attention_math_for_mps",
    "aten._triton_scaled_dot_attention",
    flops=_attention,
    other=_around,
    activations=_outputs,
)
operator(
    "aten._scaled_dot_product_cudnn_attention_backward",
    "aten._scaled_dot_product_efficient_attention_backward",
    "aten._scaled_dot_product_flash_attention_backward",
    "aten._scaled_dot_product_flash_attention_for_cpu_backward",
    "aten._scaled_dot_product_fused_attention_overrideable_backward",
    flops=_attention_backward,
    other=_around_backward,
    by_gradients=True,
)
operator("aten._flash_attention_forward", flops=_flash_attention, other=_around_packed, activations=_packed_outputs)
operator("aten._flash_attention_backward", flops=_flash_attention_backward, other=_around_packed_backward)
operator(
    "aten._efficient_attention_forward", flops=_efficient_attention, other=_around_packed, activations=_packed_outputs
)
operator("aten._efficient_attention_backward", flops=_efficient_attention_backward, other=_around_packed_backward)
operator(
    "aten._native_multi_head_attention",
    "aten._triton_multi_head_attention",
    flops=_native_multi_head_attention,
    other=_around_native,
    activations=_native_multi_head_outputs,
)
operator(
    "aten._transformer_encoder_layer_fwd",
    flops=_transformer_encoder_layer,
    other=_around_encoder_layer,
    activations=_encoder_layer_outputs,
)
