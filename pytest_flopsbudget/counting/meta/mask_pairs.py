"""Count the pairs (query, key) that masks of attention leave, without making the masks.

A block of queries and keys is counted as a whole if bounds show that the masks leave all its pairs, or none. Otherwise
it is divided. Of a causal mask, only the blocks on the diagonal are computed pair by pair, so the work grows with the
length of the sequence, not with its square.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import torch

from pytest_flopsbudget.counting.meta.deferred import (
    CPU,
    FIRST,
    Blocks,
    Bounds,
    Deferred,
    Index,
    NotKnownError,
)
from pytest_flopsbudget.counting.torch_private import disable_current_modes

if TYPE_CHECKING:
    from collections.abc import Sequence


#: Masks with at most this many pairs are computed pair by pair.
_AT_ONCE = 1 << 14
#: An `Index.axis` that is neither the query's nor the key's.
_ELSE = 4
#: The length of a side of a block is divided by this number.
_DIVIDED = 8
#: The maximum number of pairs that are computed, one by one, for all masks of one operator.
_MAX_PAIRS = 1 << 26
#: Softmax gives no weight to a score to which a mask adds this number or a lower one. (Biases by distance, as in ALiBi,
#: are higher.)
_LOWEST = -1e9
_OF_MASKS = (torch.bool, torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Mask(NamedTuple):
    """One mask of attention."""

    #: The values (..., queries, keys): truth values, or numbers that are added to the scores.
    values: Deferred
    #: Whether truth values are true for the pairs that the mask removes.
    drops: bool = False


def lowest(dtype: torch.dtype) -> float:
    """Return the highest number that removes a pair, if a mask of this dtype adds it to the score."""
    return max(torch.finfo(dtype).min, _LOWEST) if dtype.is_floating_point else _LOWEST


def may_be_mask(tensor: torch.Tensor) -> bool:
    """Return whether attention may take such a tensor as a mask: truth values, or numbers to add."""
    return tensor.layout is torch.strided and tensor.dtype in _OF_MASKS


def keeps(values: torch.Tensor, *, drops: bool = False) -> torch.Tensor:
    """Return for each value of a mask whether its pair is left."""
    if values.dtype is torch.bool:
        return ~values if drops else values
    return values > lowest(values.dtype)


def share_left(masks: Sequence[Mask]) -> Fraction | None:
    """Return the share of all pairs that all of ``masks`` leave; None if that takes too long.

    The masks broadcast to one shape.
    """
    # Numbers that remove no pair are no mask.
    masks = [mask for mask in masks if mask.values.masks or not mask.values.dtype.is_floating_point]
    if not masks:
        return Fraction(1)
    key = tuple((id(mask.values), mask.drops) for mask in masks)
    kept = masks[0].values.kept
    if key not in kept:
        with disable_current_modes(), torch.no_grad():
            # The masks are a part of the entry, so that no other mask gets the identity of one of them.
            kept[key] = _share_left(masks), tuple(masks)
    share: Fraction | None = kept[key][0]
    return share


def _share_left(masks: Sequence[Mask]) -> Fraction | None:
    try:
        shape = torch.broadcast_shapes(*(mask.values.shape for mask in masks), (1, 1))
    except RuntimeError:  # two masks that group batches and heads in different ways
        return None
    *leading, queries, keys = shape
    if not shape.numel():
        return Fraction(1)
    counter = _Counter(masks, queries, keys)
    pairs = 0
    try:
        varying = [size if counter.depends_on(place, len(leading)) else 1 for place, size in enumerate(leading)]
        for places in itertools.product(*map(range, varying)):
            pairs += counter.count(places)
    except NotKnownError:
        return None
    return Fraction(pairs, math.prod(varying) * queries * keys)


class _Counter:
    def __init__(self, masks: Sequence[Mask], queries: int, keys: int) -> None:
        self._masks, self._queries, self._keys = masks, queries, keys
        self._computed = 0

    def depends_on(self, place: int, dimensions: int) -> bool:
        """Return whether a mask differs along one of the ``dimensions`` before those of queries and keys."""
        index = [Index(_ELSE) if one == place else FIRST for one in range(dimensions)] + [FIRST, FIRST]
        return any(mask.values.axes(self._index(mask, index)) for mask in self._masks)

    def count(self, places: tuple[int, ...]) -> int:
        """Return the number of pairs that are left at one place of the leading dimensions."""
        index = [*(Index(0, place) for place in places), Index(1), Index(2)]
        masks = [(mask, self._index(mask, index)) for mask in self._masks]
        if self._queries * self._keys <= _AT_ONCE:
            sizes = self._queries, self._keys
            return self._pairs(
                masks, Blocks(torch.zeros(1, 2, dtype=torch.int64, device=CPU), sizes, sizes), sizes[0] * sizes[1]
            )
        side = _DIVIDED
        while side * _DIVIDED < max(self._queries, self._keys):
            side *= _DIVIDED
        starts = torch.cartesian_prod(
            torch.arange(0, self._queries, side, device=CPU), torch.arange(0, self._keys, side, device=CPU)
        )
        total = 0
        while len(starts):
            full, starts = self._undecided(masks, starts, side)
            total += full
            if side == _DIVIDED:
                return total + self._in_blocks(masks, starts, side)
            side //= _DIVIDED
            inner = torch.cartesian_prod(*(torch.arange(0, side * _DIVIDED, side, device=CPU),) * 2)
            starts = (starts[:, None] + inner).reshape(-1, 2)
            inside = (starts[:, 0] < self._queries) & (starts[:, 1] < self._keys)
            starts = starts[inside]
        return total

    @staticmethod
    def _index(mask: Mask, index: Sequence[Index]) -> list[Index]:
        shape = mask.values.shape
        own = index[len(index) - len(shape) :]
        return [FIRST if size == 1 else one for one, size in zip(own, shape, strict=True)]

    def _undecided(
        self, masks: Sequence[tuple[Mask, list[Index]]], starts: torch.Tensor, side: int
    ) -> tuple[int, torch.Tensor]:
        """Return the number of pairs in blocks that are left as a whole, and the blocks that are left in part."""
        self._add(len(starts))
        blocks = self._blocks(starts, side)
        every = torch.ones(len(starts), dtype=torch.bool, device=CPU)
        some = torch.ones(len(starts), dtype=torch.bool, device=CPU)
        for mask, index in masks:
            bounds = mask.values.bounds(index, blocks)
            if bounds is None:
                every = torch.zeros_like(every)
                continue
            low, high = _kept_bounds(bounds, mask)
            every, some = every & low, some & high
        rows = (self._queries - starts[:, 0]).clamp(max=side)
        columns = (self._keys - starts[:, 1]).clamp(max=side)
        return int((rows * columns)[every].sum()), starts[some & ~every]

    def _in_blocks(self, masks: Sequence[tuple[Mask, list[Index]]], starts: torch.Tensor, side: int) -> int:
        """Count pair by pair."""
        total = 0
        for part in starts.split(_AT_ONCE):
            blocks = self._blocks(part, side)
            inside = (part[:, :1, None] + torch.arange(side, device=CPU).view(1, -1, 1) < self._queries) & (
                part[:, 1:, None] + torch.arange(side, device=CPU).view(1, 1, -1) < self._keys
            )
            total += self._pairs(masks, blocks, len(part) * side * side, inside)
        return total

    def _pairs(
        self,
        masks: Sequence[tuple[Mask, list[Index]]],
        blocks: Blocks,
        pairs: int,
        inside: torch.Tensor | None = None,
    ) -> int:
        self._add(pairs)
        left = torch.ones((), dtype=torch.bool, device=CPU) if inside is None else inside
        for mask, index in masks:
            left = left & keeps(mask.values.at(index, blocks), drops=mask.drops)
        return int(left.sum()) * (pairs // max(1, left.numel()))

    def _blocks(self, starts: torch.Tensor, side: int) -> Blocks:
        return Blocks(starts, (side, side), (self._queries, self._keys))

    def _add(self, pairs: int) -> None:
        self._computed += pairs
        if self._computed > _MAX_PAIRS:
            raise NotKnownError


def _kept_bounds(bounds: Bounds, mask: Mask) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (whether all pairs of a block are left, whether some may be)."""
    low, high = keeps(bounds.low, drops=mask.drops), keeps(bounds.high, drops=mask.drops)
    return (high, low) if bounds.low.dtype is torch.bool and mask.drops else (low, high)
