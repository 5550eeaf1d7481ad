"""Count flex attention by its definition, for the blocks that its mask keeps.

In eager mode, PyTorch computes the outputs as plain attention over all scores, and computes the scores again in the
backward pass. The work is counted by running the definition of attention instead.

A block mask says which blocks of queries and keys are computed. If the mask's values are known, only these blocks are
counted. Otherwise all blocks are counted, and a note says so.
"""

from __future__ import annotations

import copy
import sys
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.higher_order.dispatch import dispatch_patches
from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.torch_private import (
    FLEX_DEVICE_CHECK,
    FLEX_OPERATORS,
    disable_current_modes,
    flex_indexing,
    flex_vmap,
    missing,
    python_body,
    safe_softmax,
    softmax_backward,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_flopsbudget.counting.operators.counter import Counter
    from pytest_flopsbudget.counting.torch_private import HigherOrderOperator


_MODULE = "torch.nn.attention.flex_attention"

#: The name of the function in a block mask that keeps all pairs. PyTorch makes such a mask if the caller passes none.
_NO_MASK = "noop_mask"
#: The operator receives a block mask as a tuple. These are the positions in the tuple: the lengths of queries and keys;
#: for each block of queries, the number of partial and of full blocks of keys; the sizes of a block; the function of
#: the mask.
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
    """Run flex attention, and count scaled scores, ``score_mod``, softmax and the weighted sum of the values.

    Args:
        tracer: the tracer that counts.
        operator: the operator `flex_attention`.
        query: a tensor (B, H, Lq, Dqk).
        key: a tensor (B, Hk, Lk, Dqk).
        value: a tensor (B, Hk, Lk, Dv).
        score_mod: a function (score, batch, head, query, key) → score.
        block_mask: the block mask as a tuple.
        scale: the factor of the scores.
        kernel_options: options of kernels, which do not change the count.
        score_buffers: further arguments of ``score_mod``.
        mask_buffers: further arguments of the mask's function.
    """
    outputs = _dense(operator)(
        query, key, value, score_mod, block_mask, scale, kernel_options, score_buffers, mask_buffers
    )
    key, value = _of_every_head(query, key, value)
    with tracer.counting(*_shares(tracer, operator, block_mask, query, mask_buffers)):
        scores = _modified(query @ key.transpose(-2, -1) * scale, score_mod, score_buffers)
        safe_softmax(scores, dim=-1).to(query.dtype) @ value  # the same softmax that PyTorch's flex attention calls
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
    """Run the backward pass of flex attention, and count its four products, softmax, scale and ``score_mod``."""
    outputs = _dense(operator)(
        query, key, value, out, logsumexp, grad_out, grad_logsumexp, score_mod, score_mod_backward, block_mask, scale,
        *others,
    )  # fmt: skip
    _, score_buffers, mask_buffers = others
    heads = key.shape[1]
    key, value = _of_every_head(query, key, value)
    scores = query @ key.transpose(-2, -1)  # not counted: computing the scores again is a choice of the kernel
    with tracer.counting(*_shares(tracer, operator, block_mask, query, mask_buffers)):
        grad_value = scores.to(query.dtype).transpose(-2, -1) @ grad_out
        grad_weights = grad_out @ value.transpose(-2, -1)
        grad_scores = softmax_backward(grad_weights, scores, -1, scores.dtype)
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
    """Inside the ``with`` block, operators that take functions, and `flex_attention`, can run under a tracer.

    If ``on_meta``, `flex_attention` can also run on meta tensors.

    If gradients are required, PyTorch traces ``score_mod``. This trace is not work of the model, so it is hidden from
    the tracer.
    """
    patches: list[tuple[Any, str, Any]] = []
    module, operators = sys.modules.get(_MODULE), sys.modules.get(FLEX_OPERATORS)
    if module is not None and on_meta:
        patches.append((module, FLEX_DEVICE_CHECK, lambda *_: None))
    if operators is not None and hasattr(operators, _TRACES):
        patches.append((operators, _TRACES, _hidden(getattr(operators, _TRACES))))
    with patched([*patches, *dispatch_patches()]):
        yield


_TRACES = "create_fw_bw_graph"


def _hidden(function: Callable[..., Any]) -> Callable[..., Any]:
    def hidden(*args: Any) -> Any:
        with disable_current_modes():
            return function(*args)

    return hidden


def block_counts(block_mask: Any) -> list[torch.Tensor]:
    """Return the tensors of a `BlockMask` that contain the number of kept blocks in each row of blocks.

    Return an empty list if ``block_mask`` is no `BlockMask`.
    """
    if type(block_mask).__name__ != "BlockMask" or type(block_mask).__module__ != _MODULE:
        return []
    counts = (block_mask.kv_num_blocks, block_mask.full_kv_num_blocks)
    return [item for item in counts if item is not None]


def _dense(operator: HigherOrderOperator) -> Callable[..., Any]:
    """Return the Python function that the operator runs in eager mode."""
    body = python_body(operator)
    if body is None:
        raise missing("Counting flex_attention", f"the Python body of {operator.name()}")
    return body


def _of_every_head(query: torch.Tensor, *shared: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return ``shared``, which are keys or values, repeated for all query heads and batches that share them."""
    batches, heads = query.shape[:2]
    return tuple(
        item.expand(batches, *item.shape[1:]).repeat_interleave(heads // item.shape[1], dim=1) for item in shared
    )


def _indices(scores: torch.Tensor) -> list[torch.Tensor]:
    return [torch.arange(size, device=scores.device) for size in scores.shape]


def _modified(scores: torch.Tensor, score_mod: Callable[..., Any], buffers: Sequence[Any]) -> torch.Tensor:
    of_all = flex_vmap()(score_mod, prefix=(0,), suffix=(None,) * len(buffers))
    with flex_indexing()():
        modified: torch.Tensor = of_all(scores, *_indices(scores), *buffers)
    return modified


def _modified_backward(
    scores: torch.Tensor, gradient: torch.Tensor, backward: Callable[..., Any], buffers: Sequence[Any]
) -> torch.Tensor:
    of_all = flex_vmap()(
        _without_forward(backward),
        prefix=(0,),
        suffix=(0,) + (None,) * len(buffers),
        out_dims=[0] + [None] * (4 + len(buffers)),
    )
    with flex_indexing()():
        modified: torch.Tensor = of_all(scores, *_indices(scores), gradient, *buffers)[0]
    return modified


def _without_forward(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``backward``, the traced derivative of ``score_mod``, without operators whose results it does not use."""
    if not isinstance(backward, torch.fx.GraphModule):
        return backward
    needed = copy.deepcopy(backward)
    needed.graph.eliminate_dead_code()
    needed.recompile()
    return needed


def _shares(
    tracer: Counter,
    operator: HigherOrderOperator,
    block_mask: Sequence[Any],
    query: torch.Tensor,
    buffers: Sequence[Any],
) -> tuple[Fraction, Fraction]:
    """Return the fraction of all blocks that the mask keeps, and the fraction of all pairs (query, key).

    If the pairs are not known, all pairs of the kept blocks count.
    """
    blocks, function = _share_of_blocks(tracer, block_mask), block_mask[_FUNCTION]
    share = Fraction(1) if blocks is None else blocks
    if getattr(function, "__name__", "") == _NO_MASK:
        return share, share
    (queries, keys), partial = block_mask[_LENGTHS], block_mask[_PARTIAL]

    def make() -> torch.Tensor:
        positions = [torch.arange(size, device=query.device) for size in (*partial.shape[:2], queries, keys)]
        of_all = flex_vmap()(function, prefix=(), suffix=(None,) * len(buffers))
        with flex_indexing()():
            mask: torch.Tensor = of_all(*positions, *buffers)
        return mask.expand(*partial.shape[:2], queries, keys)

    pairs = tracer.share_of_mask(make)
    if pairs is None and blocks is not None:  # otherwise there is a note already
        tracer.note_unknown_mask(operator.name())
    return share, share if pairs is None else min(share, pairs)


def _share_of_blocks(tracer: Counter, block_mask: Sequence[Any]) -> Fraction | None:
    """Return the fraction of all blocks that the mask keeps. If it is not known, add a note and return None."""
    partial, full = block_mask[_PARTIAL], block_mask[_FULL]
    (queries, keys), (query_block, key_block) = block_mask[_LENGTHS], block_mask[_BLOCK]
    rows, columns = -(-queries // query_block), -(-keys // key_block)
    if rows * columns == 1:
        return Fraction(1)  # there is no mask, or the mask has one block only
    known = [tracer.known_value(counts) for counts in (partial, full) if counts is not None]
    if any(counts is None for counts in known):
        tracer.notes.add("flex_attention is counted dense: which blocks its mask keeps is not known without data")
        return None
    kept = sum(int(counts.sum()) for counts in known if counts is not None)
    tracer.notes.add("flex_attention is counted for the blocks that its mask keeps")
    return Fraction(kept, partial.numel() * columns)
