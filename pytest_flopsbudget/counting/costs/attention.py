"""Fused attention: 2·B·H·Lq·Lk·(Dqk + Dv) FLOPs, where H is the number of *query* heads.

A causal mask does not reduce this number. Each head has Lq·Lk scores, and each score in Q·Kᵀ is a sum of Dqk products.
Each head has Lq·Dv outputs, and each output is a sum of Lk products with V. The backward pass consists of four products
of these sizes, so it costs twice as much as the forward pass.

A fused kernel computes the scores again in the backward pass, and also computes gradients that are not requested. This
work is not counted, because the unfused form does not do this work.

Source: Vaswani et al., "Attention Is All You Need", 2017, §3.2.1.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pytest_flopsbudget.counting.costs.registry import operator, per_mac
from pytest_flopsbudget.counting.tensors.metadata import has_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flopsbudget.counting.costs.registry import Call


def _attention(call: Call) -> int:
    """Count the FLOPs of two matrix products: query times key, and scores times value.

    The operands are (…, heads, length, width). The query may have more heads than key and value.
    """
    query, key, value = _operands(call)
    return per_mac(query) * _scores(query, key) * (query.shape[-1] + value.shape[-1])


def _operands(call: Call) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return call.tensor("query", "q"), call.tensor("key", "k"), call.tensor("value", "v")


class _Requested(NamedTuple):
    """The gradients that one call of attention's backward pass must compute."""

    query: bool
    key: bool
    value: bool
    #: Whether a requested gradient is computed from the gradient of the scores.
    scores: bool


def _requested(call: Call) -> _Requested:
    """Return which gradients the call must compute.

    If the call passes a mask of gradients, the mask decides. Otherwise, ``requires_grad`` of the operands decides. If
    no operand requires a gradient, as in compiled code, all gradients count as requested.
    """
    mask = argument(call, "grad_input_mask")
    if mask is not None:
        query, key, value, bias = mask
        return _Requested(query, key, value, query or key or bias)
    query, key, value = (call.tensor(name).requires_grad for name in ("query", "key", "value"))
    if not (query or key or value):  # compiled code: all gradients count as requested
        return _Requested(query=True, key=True, value=True, scores=True)
    return _Requested(query, key, value, query or key)


def _attention_backward(call: Call) -> int:
    """Count the FLOPs of one matrix product for each needed gradient: of scores, value, query and key."""
    query, value = call.tensor("query"), call.tensor("value")
    requested = _requested(call)
    width = query.shape[-1] * (requested.query + requested.key)
    width += value.shape[-1] * (requested.scores + requested.value)
    return per_mac(query) * _scores(query, call.tensor("key")) * width


def used_keys(call: Call) -> Any:
    """Return the argument that says how many keys of each sequence are used; None if there is none."""
    return argument(call, *_USED_KEYS)


class _Packed(NamedTuple):
    """The sizes of one call of attention, whose sequences may be packed."""

    #: The number of queries, without heads.
    queries: int
    #: The number of keys, without heads.
    keys: int
    #: The number of pairs of a query and a key in the same sequence, over all query heads.
    scores: int


def known_integers(tensor: torch.Tensor | None) -> list[int] | None:
    """Return the integers in ``tensor``. Return None if ``tensor`` is None or has no data."""
    return None if tensor is None or not has_data(tensor) else [int(value) for value in tensor.tolist()]


def lengths_between(offsets: torch.Tensor | None) -> list[int] | None:
    """Return the length of each packed sequence. Return None if ``offsets`` is None or has no data."""
    values = known_integers(offsets)
    return None if values is None else [stop - start for start, stop in itertools.pairwise(values)]


QUERY_OFFSETS = ("cum_seq_q", "cu_seqlens_q", "cu_seq_q")
KEY_OFFSETS = ("cum_seq_k", "cu_seqlens_k", "cu_seq_k")
#: Arguments that say how many keys of each sequence are used, if the memory holds more keys (as a cache does).
_USED_KEYS = ("seqused_k", "seqlen_k")


def _packed(call: Call) -> _Packed:
    """Return the sizes of attention in one call.

    If the lengths of the sequences are not known, the sizes are upper bounds.
    """
    query, key = call.tensor("query"), call.tensor("key")
    heads, queries, keys = query.shape[-2], query.shape[:-2].numel(), key.shape[:-2].numel()
    query_offsets = argument(call, *QUERY_OFFSETS)
    if query_offsets is None:
        return _Packed(queries, keys, query.shape[:-1].numel() * key.shape[-3])
    query_lengths = lengths_between(query_offsets)
    used = used_keys(call)
    key_lengths = lengths_between(argument(call, *KEY_OFFSETS)) if used is None else known_integers(used)
    if query_lengths is None or key_lengths is None:
        longest = argument(call, "max_k", "max_seqlen_k")
        # Each query is paired with as many keys as the longest sequence has.
        longest = keys if longest is None else int(longest)
        sequences = query_offsets.shape[0] - 1
        return _Packed(queries, min(keys, sequences * longest), heads * queries * longest)
    pairs = sum(q * k for q, k in zip(query_lengths, key_lengths, strict=True))
    return _Packed(sum(query_lengths), sum(key_lengths), heads * pairs)


def _packed_attention(call: Call) -> int:
    query, value = call.tensor("query"), call.tensor("value")
    return per_mac(query) * _packed(call).scores * (query.shape[-1] + value.shape[-1])


def _packed_attention_backward(call: Call) -> int:
    return 2 * _packed_attention(call)


def _multi_head(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> int:
    """Count the FLOPs of all matrix products of multi-head attention. Each operand is (batch, length, features)."""
    batch, queries, width = query.shape
    keys = key.shape[1]
    projections = 2 * batch * (2 * queries + keys + value.shape[1]) * width * width
    return projections + 2 * batch * queries * keys * 2 * width


def _native_multi_head_attention(call: Call) -> int:
    return _multi_head(call.tensor("query"), call.tensor("key"), call.tensor("value"))


def _transformer_encoder_layer(call: Call) -> int:
    """Count the FLOPs of the matrix products of self-attention and of the two feed-forward layers."""
    source = call.tensor("src")
    tokens = source.shape[0] * source.shape[1]
    feed_forward = 2 * tokens * (call.tensor("ffn_weight_1").numel() + call.tensor("ffn_weight_2").numel())
    return _multi_head(source, source, source) + feed_forward


# The other FLOPs are those of the unfused form. It multiplies both query and key with the root of the scale, so that
# neither exceeds the range of its dtype. It adds a mask to the scores. Softmax costs 5 operations per score, and
# dropout costs 2.


def _scores(query: torch.Tensor, key: torch.Tensor) -> int:
    """Return the number of elements in the scores (…, query heads, query length, key length)."""
    return query.shape[:-1].numel() * key.shape[-2]


def _scaled(query: torch.Tensor, key: torch.Tensor) -> int:
    """Count the scaling of query and key: one operation per element.

    If several query heads share a key head, the key head is scaled once for each of these query heads.
    """
    return query.numel() + query.shape[:-2].numel() * key.shape[-2] * key.shape[-1]


def argument(call: Call, *names: str) -> Any:
    """Return the first of the named arguments that the operator has; None if it has none of them."""
    return next((call[name] for name in names if name in call.names), None)


def _around(call: Call) -> int:
    query, key, _ = _operands(call)
    is_masked = bool(argument(call, "is_causal")) or argument(call, "attn_mask", "attn_bias") is not None
    dropped = 2 if argument(call, "dropout_p") else 0
    return _scaled(query, key) + (5 + is_masked + dropped) * _scores(query, key)


def _around_backward(call: Call) -> int:
    """Count the operations of attention's backward pass outside of its matrix products."""
    query, key, value = call.tensor("query"), call.tensor("key"), call.tensor("value")
    requested = _requested(call)
    dropped = 1 if argument(call, "dropout_p") else 0
    shared = query.shape[-3] // key.shape[-3] if query.ndim > 2 else 1  # noqa: PLR2004 -- heads, length, width
    # Query heads that share a key head: their gradients of key and value are summed.
    sums = (shared - 1) * (requested.key * key.numel() + requested.value * value.numel())
    scales = requested.query * query.numel() + requested.key * (_scaled(query, key) - query.numel())
    # softmax: 4 per score; dropout: 1
    return scales + requested.scores * (4 + dropped) * _scores(query, key) + sums


def _scaled_packed(call: Call, sizes: _Packed) -> int:
    query, key = call.tensor("query"), call.tensor("key")
    return query.shape[-2] * (sizes.queries * query.shape[-1] + sizes.keys * key.shape[-1])


def _is_causal(call: Call) -> bool:
    """Return whether attention is causal, or has a window that limits the keys of each query."""
    window = argument(call, "window_size") or (-1,)
    windows = window if isinstance(window, (list, tuple)) else (window,)
    windows = (*windows, argument(call, "window_size_left"), argument(call, "window_size_right"))
    limited = any(size is not None and size >= 0 for size in windows)
    return limited or bool(argument(call, "is_causal", "custom_mask_type"))


def _around_packed(call: Call) -> int:
    sizes = _packed(call)
    is_masked = _is_causal(call) or argument(call, "bias", "attn_bias") is not None
    dropped = 2 if argument(call, "dropout_p") else 0
    return _scaled_packed(call, sizes) + (5 + is_masked + dropped) * sizes.scores


def _around_packed_backward(call: Call) -> int:
    sizes = _packed(call)
    query, key, value = call.tensor("query"), call.tensor("key"), call.tensor("value")
    dropped = 1 if argument(call, "dropout_p") else 0
    shared = query.shape[-2] // key.shape[-2]
    sums = (shared - 1) * sizes.keys * key.shape[-2] * (key.shape[-1] + value.shape[-1])
    return _scaled_packed(call, sizes) + (4 + dropped) * sizes.scores + sums


def _around_multi_head(query: torch.Tensor, key: torch.Tensor, heads: int, *, masked: bool) -> int:
    """Count the operations of multi-head attention outside of its matrix products."""
    batch, queries, width = query.shape
    keys = key.shape[1]
    biases = batch * (2 * queries + 2 * keys) * width  # of four projections
    # then the scaling of query and key; softmax: 5 per score; the mask: 1
    return biases + batch * (queries + keys) * width + (5 + masked) * batch * heads * queries * keys


def _around_native(call: Call) -> int:
    masked = call["mask"] is not None
    return _around_multi_head(call.tensor("query"), call.tensor("key"), int(call["num_head"]), masked=masked)


def _around_encoder_layer(call: Call) -> int:
    """Count the operations of a transformer's encoder layer outside of its matrix products."""
    source = call.tensor("src")
    inner = math.prod(source.shape[:-1]) * call.tensor("ffn_weight_1").shape[0]
    masked = call["mask"] is not None
    attention = _around_multi_head(source, source, int(call["num_heads"]), masked=masked)
    activation = 5 if call["use_gelu"] else 1
    # 2 residual sums, 2 layer normalizations of 7 operations, 2 biases, 1 activation
    return attention + (2 + 2 * 7 + 1) * source.numel() + (1 + activation) * inner


def _is_packed(call: Call) -> bool:
    """Return whether cuDNN's operands are packed sequences. They then have one dimension less than a batch."""
    return call.tensor("query").ndim == 3  # noqa: PLR2004 -- tokens, heads, width


# The metric "activations": the number of elements in the outputs of products.


def _outputs(call: Call) -> int:
    """Count the elements of the scores and of the output."""
    query, key, value = _operands(call)
    return _scores(query, key) + query.shape[:-1].numel() * value.shape[-1]


def _packed_outputs(call: Call) -> int:
    """Count the elements of the scores and of the output.

    A query has scores only for the keys of its own sequence.
    """
    sizes = _packed(call)
    return sizes.scores + sizes.queries * call.tensor("query").shape[-2] * call.tensor("value").shape[-1]


def _multi_head_outputs(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> int:
    """Count the output elements of all matrix products in multi-head attention.

    Each operand is (batch, length, features).
    """
    batch, queries, width = query.shape
    keys = key.shape[1]
    projections = batch * width * (2 * queries + keys + value.shape[1])
    return projections + batch * queries * (heads * keys + width)


def _native_multi_head_outputs(call: Call) -> int:
    return _multi_head_outputs(call.tensor("query"), call.tensor("key"), call.tensor("value"), int(call["num_head"]))


def _encoder_layer_outputs(call: Call) -> int:
    """Count the output elements of all matrix products in a transformer's encoder layer."""
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


def _lengths_given(call: Call) -> Iterator[torch.Tensor]:
    """Yield the tensors that hold the lengths of packed sequences."""
    for name in (*QUERY_OFFSETS, *KEY_OFFSETS, *_USED_KEYS):
        if isinstance(tensor := argument(call, name), torch.Tensor):
            yield tensor


operator(
    "aten._flash_attention_forward",
    "aten._flash_attention_forward_no_dropout_inplace",
    "aten._efficient_attention_forward",
    "torch_attn._varlen_attn",
    "torch_attn._varlen_attn_out",
    flops=_packed_attention,
    other=_around_packed,
    activations=_packed_outputs,
    values=_lengths_given,
)
operator(
    "aten._flash_attention_backward",
    "aten._efficient_attention_backward",
    "torch_attn._varlen_attn_backward",
    flops=_packed_attention_backward,
    other=_around_packed_backward,
    values=_lengths_given,
)
operator(
    "aten._cudnn_attention_forward",
    flops=lambda call: (_packed_attention if _is_packed(call) else _attention)(call),
    other=lambda call: (_around_packed if _is_packed(call) else _around)(call),
    activations=lambda call: (_packed_outputs if _is_packed(call) else _outputs)(call),
    values=_lengths_given,
)
operator(
    "aten._cudnn_attention_backward",
    flops=lambda call: (_packed_attention_backward if _is_packed(call) else _attention_backward)(call),
    other=lambda call: (_around_packed_backward if _is_packed(call) else _around_backward)(call),
    values=_lengths_given,
    by_gradients=True,
)
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
