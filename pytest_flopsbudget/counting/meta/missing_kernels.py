"""Outputs of operators that PyTorch has no meta kernel for, from their definitions. Found on PyTorch's database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def _empty(shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    return torch.empty(shape, dtype=like.dtype, device="meta")


def _like_self(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """(grad_output, self, …) → the gradient of ``self``."""
    return _empty(args[1].shape, args[1])


def _geqrf(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """(…, m, n) → the same by columns, as LAPACK leaves it, and the reflectors' min(m, n) factors."""
    (matrix,) = args
    *batch, rows, columns = matrix.shape
    return _empty((*batch, columns, rows), matrix).mT, _empty((*batch, min(rows, columns)), matrix)


def _histogram(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    inputs = args[0]
    bins = args[1] if len(args) > 1 else 100
    count = bins.numel() - 1 if isinstance(bins, torch.Tensor) else bins
    return _empty((count,), inputs), _empty((count + 1,), inputs)


def _bin_edges(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    inputs, bins = args
    return [_empty((count + 1,), inputs) for count in bins]


def _histogram_by_edges(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    inputs, bins = args
    return _empty([edges.numel() - 1 for edges in bins], inputs)


def _histogram_by_counts(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    inputs, bins = args
    return _empty(bins, inputs)


OUTPUTS: Mapping[str, Callable[[Sequence[Any], Mapping[str, Any]], Any]] = {
    "aten._histogramdd_bin_edges": _bin_edges,
    "aten._histogramdd_from_bin_cts": _histogram_by_counts,
    "aten._histogramdd_from_bin_tensors": _histogram_by_edges,
    "aten.fractional_max_pool3d_backward": _like_self,
    "aten.geqrf": _geqrf,
    "aten.histogram": _histogram,
    "aten.multi_margin_loss_backward": _like_self,
    "aten.multilabel_margin_loss_backward": _like_self,
}
