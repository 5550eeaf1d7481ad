"""Flex attention: attention as it is defined, for the blocks that its mask keeps.

PyTorch runs the operator in eager mode as plain attention over all scores, and computes them once more in backward. Its
outputs are taken from there; the work is counted by running the definition. A block mask says which blocks of queries
and keys are computed at all. Where it is known, only they are counted; else all are, and a note says so.
"""

from __future__ import annotations

import copy
import sys
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from pytest_flopsbudget.counting.isolation.patching import replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch._ops import HigherOrderOperator

    from pytest_flopsbudget.counting.operators.counter import Counter


_MODULE = "torch.nn.attention.flex_attention"

#: Where a block mask, taken apart, has the lengths that it is for, its numbers of partial and of full blocks for each
#: block of queries, the sizes of a block, and its function.
_LENGTHS, _PARTIAL, _FULL, _BLOCK, _FUNCTION = slice(0, 2), 2, 4, slice(-3, -1), -1


def attention(  # noqa: PLR0913, PLR0917 -- as the operator is called
    tracer: Counter,
    operator: HigherOrderOperator,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    score_mod: Callable[..., Any],
    block_mask: Sequence[Any],
    scale: float,
    kernel_options: Any,
    score_buffers: Sequence[Any] = (),
    mask_buffers: Sequence[Any] = (),
) -> Any:
    """Scores scaled, changed by ``score_mod``, softmax, and the sum of the values.

    Args:
        tracer: counts.
        operator: flex attention.
        query: (B, H, Lq, Dqk)
        key: (B, Hk, Lk, Dqk)
        value: (B, Hk, Lk, Dv)
        score_mod: (score, batch, head, query, key) → score
        block_mask: taken apart, as the operator is given it.
        scale: of the scores.
        kernel_options: of no account.
        score_buffers: further arguments of ``score_mod``.
        mask_buffers: further arguments of the mask's function.
    """
    outputs = _dense(operator)(
        query, key, value, score_mod, block_mask, scale, kernel_options, score_buffers, mask_buffers
    )
    key, value = _of_every_head(query, key, value)
    with tracer.counting(_share(tracer, block_mask)):
        scores = _modified(query @ key.transpose(-2, -1) * scale, score_mod, score_buffers)
        torch._safe_softmax(scores, dim=-1).to(query.dtype) @ value  # noqa: SLF001 -- what the operator itself calls
    return outputs


def attention_backward(  # noqa: PLR0913, PLR0917 -- as the operator is called
    tracer: Counter,
    operator: HigherOrderOperator,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    logsumexp: torch.Tensor,
    grad_out: torch.Tensor,
    grad_logsumexp: torch.Tensor | None,
    score_mod: Callable[..., Any],
    score_mod_backward: Callable[..., Any],
    block_mask: Sequence[Any],
    scale: float,
    *others: Any,
) -> Any:
    """The four products of attention's backward pass, softmax's, the scale's and ``score_mod``'s.

    What the kernel computes again (the scores, their softmax) is its own choice and not counted.
    """
    outputs = _dense(operator)(
        query, key, value, out, logsumexp, grad_out, grad_logsumexp, score_mod, score_mod_backward, block_mask, scale,
        *others,
    )  # fmt: skip
    _, score_buffers, _ = others
    heads = key.shape[1]
    key, value = _of_every_head(query, key, value)
    scores = query @ key.transpose(-2, -1)
    with tracer.counting(_share(tracer, block_mask)):
        grad_value = scores.to(query.dtype).transpose(-2, -1) @ grad_out
        grad_weights = grad_out @ value.transpose(-2, -1)
        grad_scores = torch._softmax_backward_data(grad_weights, scores, -1, scores.dtype)  # noqa: SLF001
        grad_scores = _modified_backward(scores, grad_scores, score_mod_backward, score_buffers) * scale
        grad_query = grad_scores.to(query.dtype) @ key
        grad_key = grad_scores.to(query.dtype).transpose(-2, -1) @ query
    with tracer:
        if heads != query.shape[1]:
            for gradient in (grad_key, grad_value):
                gradient.unflatten(1, (heads, -1)).sum(dim=2)
    del grad_query
    return outputs


@contextmanager
def countable(*, on_meta: bool) -> Iterator[None]:
    """Let `flex_attention` run while somebody looks on, and on meta tensors, which it refuses without need.

    With gradients it traces ``score_mod`` on one number, by modes of its own: that is none of the model's work.
    """
    replacements: list[tuple[Any, str, Any]] = []
    module, operators = sys.modules.get(_MODULE), sys.modules.get("torch._higher_order_ops.flex_attention")
    if module is not None and on_meta:
        replacements.append((module, "_validate_device", lambda *_: None))
    if operators is not None:
        replacements.append((operators, _TRACES, _unseen(getattr(operators, _TRACES))))
    with replaced(replacements):
        yield


_TRACES = "create_fw_bw_graph"


def _unseen(function: Callable[..., Any]) -> Callable[..., Any]:
    def unseen(*args: Any) -> Any:
        with _disable_current_modes():
            return function(*args)

    return unseen


def counts_of(block_mask: Any) -> list[torch.Tensor]:
    """The tensors of a `BlockMask` that say how many blocks it keeps; nothing of any other object."""
    if type(block_mask).__name__ != "BlockMask" or type(block_mask).__module__ != _MODULE:
        return []
    counts = (block_mask.kv_num_blocks, block_mask.full_kv_num_blocks)
    return [item for item in counts if item is not None]


def _dense(operator: HigherOrderOperator) -> Callable[..., Any]:
    dense: Callable[..., Any] = operator.py_kernels[torch._C.DispatchKey.CompositeExplicitAutograd]  # noqa: SLF001
    return dense


def _of_every_head(query: torch.Tensor, *shared: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Keys and values, each repeated for the query heads and batches that share it."""
    batches, heads = query.shape[:2]
    return tuple(
        item.expand(batches, *item.shape[1:]).repeat_interleave(heads // item.shape[1], dim=1) for item in shared
    )


def _places(scores: torch.Tensor) -> list[torch.Tensor]:
    return [torch.arange(size, device=scores.device) for size in scores.shape]


def _modified(scores: torch.Tensor, score_mod: Callable[..., Any], buffers: Sequence[Any]) -> torch.Tensor:
    from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex  # noqa: PLC0415 -- loaded by now
    from torch.nn.attention.flex_attention import _vmap_for_bhqkv  # noqa: PLC0415

    of_all = _vmap_for_bhqkv(score_mod, prefix=(0,), suffix=(None,) * len(buffers))
    with TransformGetItemToIndex():
        modified: torch.Tensor = of_all(scores, *_places(scores), *buffers)
    return modified


def _modified_backward(
    scores: torch.Tensor, gradient: torch.Tensor, backward: Callable[..., Any], buffers: Sequence[Any]
) -> torch.Tensor:
    from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex  # noqa: PLC0415
    from torch.nn.attention.flex_attention import _vmap_for_bhqkv  # noqa: PLC0415

    of_all = _vmap_for_bhqkv(
        _without_forward(backward),
        prefix=(0,),
        suffix=(0,) + (None,) * len(buffers),
        out_dims=[0] + [None] * (4 + len(buffers)),
    )
    with TransformGetItemToIndex():
        modified: torch.Tensor = of_all(scores, *_places(scores), gradient, *buffers)[0]
    return modified


def _without_forward(backward: Callable[..., Any]) -> Callable[..., Any]:
    """The graph of a derivative without what it does not need of the forward pass that it was traced with."""
    if not isinstance(backward, torch.fx.GraphModule):
        return backward
    needed = copy.deepcopy(backward)
    needed.graph.eliminate_dead_code()
    needed.recompile()
    return needed


def _share(tracer: Counter, block_mask: Sequence[Any]) -> Fraction:
    """The part of all blocks that the mask keeps; 1 where it is not known."""
    partial, full = block_mask[_PARTIAL], block_mask[_FULL]
    (queries, keys), (query_block, key_block) = block_mask[_LENGTHS], block_mask[_BLOCK]
    rows, columns = -(-queries // query_block), -(-keys // key_block)
    if rows * columns == 1:
        return Fraction(1)  # no mask, or one that is a block in all
    known = [tracer.known_value(counts) for counts in (partial, full) if counts is not None]
    if any(counts is None for counts in known):
        tracer.notes.add("flex_attention is counted dense: which blocks its mask keeps is not known without data")
        return Fraction(1)
    kept = sum(int(counts.sum()) for counts in known if counts is not None)
    tracer.notes.add("flex_attention is counted for the blocks that its mask keeps")
    return Fraction(kept, partial.numel() * columns)
