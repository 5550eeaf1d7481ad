"""What the masks of attention leave: the share of the pairs (query, key) for which an operator has to compute."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.operators.accounting import masked_flops_of
from pytest_flopsbudget.counting.torch_private import no_dispatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_flopsbudget.counting.operators.info import OperatorInfo
    from pytest_flopsbudget.counting.operators.work import Work
    from pytest_flopsbudget.counting.tracing.modules import ModuleTracker


#: Softmax gives no weight to a score to which a mask adds this number or a lower one, in every model that people train.
_LOWEST = -1e9


class AttentionMasks:
    """The masks of the attention that one run computes.

    Args:
        tracker: the object that knows which module is running.
    """

    def __init__(self, tracker: ModuleTracker) -> None:
        self._tracker = tracker
        #: (work, masked FLOPs) → the work with these masked FLOPs, so that equal calls share one object.
        self._works: dict[tuple[Work, int], Work] = {}
        #: (path of the module, operator) of the first call whose mask is not known, and the number of such calls.
        self._first_unknown: tuple[str, str] | None = None
        self._unknown_calls = 0

    def masked(  # noqa: PLR0913, PLR0917 -- a call and its work
        self,
        info: OperatorInfo,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        output: Any,
        work: Work,
        values: Callable[[torch.Tensor], torch.Tensor | None],
    ) -> Work:
        """Return the work of a call of fused attention, with the FLOPs that its masks leave.

        If the values of a mask are not known, return ``work`` unchanged, and note the call. ``values`` returns a tensor
        with the values of a mask, or None.
        """

        def kept(mask: torch.Tensor, *, drops: bool) -> Fraction | None:
            value = values(mask)
            return None if value is None else share_of_kept(value, drops=drops)

        flops = masked_flops_of(info, args, kwargs, output, work.flops, kept)
        if flops is None:
            self._note_unknown(info.name)
            return work
        return self._with(work, flops)

    def _with(self, work: Work, flops: int) -> Work:
        if flops == work.masked_flops:
            return work
        key = (work, flops)
        known = self._works.get(key)
        if known is None:
            known = self._works[key] = work.masked(flops)
        return known

    def _note_unknown(self, operator: str) -> None:
        if self._first_unknown is None:
            self._first_unknown = self._tracker.current().path, operator
        self._unknown_calls += 1

    def notes(self) -> list[str]:
        """Return a sentence on the masks whose values are not known, or an empty list."""
        if self._first_unknown is None:
            return []
        path, operator = self._first_unknown
        more = "" if self._unknown_calls == 1 else f" and {self._unknown_calls - 1:,} more calls"
        return [
            f"masked_flops counts all pairs in {path or 'the model itself'} ({operator}){more}: "
            "the values of the mask are not known without data"
        ]


def share_of_kept(mask: torch.Tensor, *, drops: bool = False) -> Fraction:
    """Return the share of the pairs that a mask leaves.

    Args:
        mask: a mask (..., queries, keys) with data. A mask of numbers is added to the scores.
        drops: whether a boolean mask is true for the pairs that it removes.
    """
    with no_dispatch():
        # Along a dimension of stride 0, all elements share their memory.
        mask = mask[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in mask.stride())]
        if not mask.numel():
            return Fraction(1)
        if mask.dtype is not torch.bool:
            mask = mask > lowest(mask.dtype)
            drops = False
        left = int(mask.sum())
        return Fraction(mask.numel() - left if drops else left, mask.numel())


def lowest(dtype: torch.dtype) -> float:
    """Return the highest number that removes a pair, if a mask of this dtype adds it to the score."""
    return max(torch.finfo(dtype).min, _LOWEST) if dtype.is_floating_point else _LOWEST
