"""Activations: the elements of the outputs of convolutions and matrix products.

Source: Radosavovic et al., "Designing Network Design Spaces", 2020, who define it for convolutions; fvcore's
`ActivationCountAnalysis` counts linear layers too. An operator that is several products in one counts as its plain
form does, so that the count does not hang on which kernel runs: fused attention has the scores that it never writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.costs import attention, quantized, recurrent
from pytest_flopsbudget.counting.costs.elementary import stored_elements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_flopsbudget.counting.costs.registry import Call


def products_outputs(call: Call) -> int:
    """The elements of the outputs of the products that one call of the forward pass consists of in its plain form."""
    rule = _SEVERAL.get(call.name)
    if rule is not None:
        return rule(call)
    output = call.output[0] if isinstance(call.output, (tuple, list)) else call.output
    return stored_elements(output) if isinstance(output, torch.Tensor) else 0


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> int:
    """Scores (…, H, Lq, Lk) and weighted sums (…, H, Lq, Dv)."""
    return query.shape[:-1].numel() * (key.shape[-2] + value.shape[-1])


def _fused_attention(call: Call) -> int:
    return _attention(call.tensor("query", "q"), call.tensor("key", "k"), call.tensor("value", "v"))


def _packed_attention(call: Call) -> int:
    """Query (…, Lq, H, Dqk); where sequences are packed, every score is of a pair of their own."""
    query, value = call.tensor("query"), call.tensor("value")
    return attention.pairs(call) + query.shape[:-1].numel() * value.shape[-1]


def _multi_head(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> int:
    """Operands (B, L, E): three projections, scores of every head, weighted sums, the output's projection."""
    batch, queries, width = query.shape
    keys = key.shape[1]
    projections = batch * width * (2 * queries + keys + value.shape[1])
    return projections + batch * queries * (heads * keys + width)


def _native_multi_head_attention(call: Call) -> int:
    return _multi_head(call.tensor("query"), call.tensor("key"), call.tensor("value"), int(call["num_head"]))


def _encoder_layer(call: Call) -> int:
    """Self-attention and the two layers of the feed-forward network."""
    source = call.tensor("src")
    widths = call.tensor("ffn_weight_1").shape[0] + call.tensor("ffn_weight_2").shape[0]
    return _multi_head(source, source, source, int(call["num_heads"])) + source.shape[0] * source.shape[1] * int(widths)


def _one_layer(call: Call) -> int:
    """The gates of the input, and those of the hidden state."""
    gates = recurrent.CELLS[call["mode"]].gates
    return 2 * call.tensor("input").shape[:-1].numel() * gates * int(call["hidden_size"])


def _stack(call: Call) -> int:
    """Each matrix of each layer and direction makes one row an element: gates of either kind, and projections."""
    rows: int = sum(weight.shape[0] for weight in call["weight"] if weight.ndim == 2)  # noqa: PLR2004 -- biases are vectors
    return call.tensor("input").shape[:-1].numel() * rows


def _quantized_step(call: Call) -> int:
    rows = call.tensor("input").shape[:-1].numel()
    return 2 * rows * recurrent.CELLS[quantized.STEPS[call.name]].gates * quantized.state(call).shape[-1]


def _quantized_layers(call: Call) -> int:
    steps = call.tensor("input", "data").shape[:-1].numel()
    layers = int(call["num_layers"]) * (2 if call["bidirectional"] else 1)
    return 2 * steps * layers * recurrent.CELLS[quantized.LAYERS[call.name]].gates * quantized.state(call).shape[-1]


def _logits(call: Call) -> int:
    """Gradients that are worked out on the way forward belong to the plain form's backward pass."""
    return call.tensor("input").shape[0] * call.tensor("linear_weight").shape[0]


def _of_each(call: Call) -> int:
    """(m, k) by (k, n), several times."""
    return sum(int(left.shape[0] * right.shape[-1]) for left, right in zip(call["self"], call["mat2"], strict=True))


def _sum_of_two(call: Call) -> int:
    """Computes a · b + c · d, each (m, k) by (k, n)."""
    return 2 * call.tensor("a").shape[0] * call.tensor("b").shape[-1]


def _gathered(call: Call) -> int:
    """One product for each of several operands, of the rows of all processes."""
    return sum(int(output.numel()) for output in call.output[1])


def _scattered(call: Call) -> int:
    """Of all rows, a part of which is returned."""
    return call.tensor("A").shape[:-1].numel() * call.tensor("B").shape[-1]


#: Operators that are several products, or whose first output is not that of one.
_SEVERAL: Mapping[str, Callable[[Call], int]] = {
    **dict.fromkeys(attention.FUSED, _fused_attention),
    **dict.fromkeys(quantized.LAYERS, _quantized_layers),
    **dict.fromkeys(quantized.STEPS, _quantized_step),
    "_native._foreach_mm_native_0": _of_each,
    "aten._cudnn_rnn": _stack,
    "aten._efficient_attention_forward": _packed_attention,
    "aten._flash_attention_forward": _packed_attention,
    "aten._foreach_mm": _of_each,
    "aten._native_multi_head_attention": _native_multi_head_attention,
    "aten._transformer_encoder_layer_fwd": _encoder_layer,
    "aten._triton_multi_head_attention": _native_multi_head_attention,
    "aten.miopen_rnn": _stack,
    "aten.mkldnn_rnn_layer": _one_layer,
    "inductor._mm_plus_mm": _sum_of_two,
    "symm_mem.fused_all_gather_matmul": _gathered,
    "symm_mem.fused_all_gather_scaled_matmul": _gathered,
    "symm_mem.fused_matmul_reduce_scatter": _scattered,
    "symm_mem.fused_scaled_matmul_reduce_scatter": _scattered,
    "torch_nn._linear_cross_entropy_batch_chunked": _logits,
    "torch_nn._linear_cross_entropy_batch_chunked_no_reduction": _logits,
}
