"""Operators from which the parameters that one token uses follow: choices among experts, grouped products, look-ups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.registry import Choice, operator

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call


def _top_k(call: Call) -> Choice | None:
    return _along(call, call["dim"], call["k"], ranks=True)


def _largest(call: Call) -> Choice | None:
    """Return the choice of the largest value along one dimension; None for the maximum of two tensors or of all."""
    if "dim" not in call.names or call["dim"] is None:
        return None
    return _along(call, call["dim"], 1, ranks=call.name == "aten.argmax")


def _drawn(call: Call) -> Choice | None:
    return _along(call, -1, call["num_samples"], ranks=True)


def _along(call: Call, dim: int, chosen: int, *, ranks: bool = False) -> Choice | None:
    inputs = call["self"]
    candidates = inputs.shape[dim] if inputs.ndim else 0
    if candidates < 2 or not 0 < chosen <= candidates:  # noqa: PLR2004 -- one candidate is no choice
        return None
    return Choice(inputs.numel() // candidates, candidates, chosen, ranks)


operator("aten.topk", choice=_top_k)
operator("aten.argmax", "aten.max", choice=_largest)
operator("aten.multinomial", choice=_drawn)
operator(
    *("aten._grouped_mm", "aten._scaled_grouped_mm", "aten._scaled_grouped_mm_v2", "transformers.grouped_mm_fallback"),
    grouped=True,
)
operator("aten.embedding", "aten._embedding_bag", "aten._embedding_bag_forward_only", table="weight")
