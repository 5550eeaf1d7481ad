"""Tensors whose values are not computed until somebody asks for some of them.

A mask of 131,072 queries and keys has 1.7·10^10 elements. It is made of few small tensors, such as positions, by
operators that work element by element. A `Deferred` keeps these operators, and computes the elements that are asked
for. For a whole block of elements, it gives bounds without computing each of them.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_flopsbudget.counting.operators.info import OperatorInfo


#: Where values are computed, whatever the default device is.
CPU = torch.device("cpu")
#: The number of elements up to which all values of a tensor are computed at once.
MAX_COMPUTED = 1 << 24


class NotKnownError(Exception):
    """Values are not known: they depend on data, or there are too many to compute them."""


class Index(NamedTuple):
    """The positions in one dimension: ``start + step · position`` of a query or of a key."""

    #: 0: neither, the position is ``start``. 1: of the query. 2: of the key.
    axis: int
    start: int = 0
    step: int = 1


FIRST = Index(0)


class Bounds(NamedTuple):
    """For each of N blocks, the lowest and the highest value in it: tensors of N elements, or of one."""

    low: torch.Tensor
    high: torch.Tensor


class Blocks:
    """N blocks of queries and keys.

    Args:
        first: (N, 2): the positions of the first query and of the first key of each block.
        sizes: the numbers of queries and of keys in a block.
        limits: the numbers of all queries and of all keys. A position beyond them becomes the last one.
    """

    def __init__(self, first: torch.Tensor, sizes: tuple[int, int], limits: tuple[int, int]) -> None:
        self._first, self._sizes, self._limits = first, sizes, limits

    @functools.cached_property
    def queries(self) -> torch.Tensor:
        """(N, queries, 1): the position of each query."""
        return self._positions(0)[:, :, None]

    @functools.cached_property
    def keys(self) -> torch.Tensor:
        """(N, 1, keys): the position of each key."""
        return self._positions(1)[:, None, :]

    def _positions(self, axis: int) -> torch.Tensor:
        positions = self._first[:, axis, None] + torch.arange(self._sizes[axis], device=CPU)
        return positions.clamp_(max=self._limits[axis] - 1)

    @functools.cached_property
    def ends(self) -> Blocks:
        """The first and the last query, and the first and the last key, of each block."""
        found = Blocks(self._first, (2, 2), self._limits)
        for axis, name in enumerate(("queries", "keys")):
            last = (self._first[:, axis] + (self._sizes[axis] - 1)).clamp_(max=self._limits[axis] - 1)
            both = torch.stack([self._first[:, axis], last], 1)
            vars(found)[name] = both[:, None, :] if axis else both[:, :, None]
        return found

    def of(self, axis: int) -> torch.Tensor:
        """Return the positions of the queries (1) or of the keys (2)."""
        return self.queries if axis == 1 else self.keys


class Deferred:
    """A tensor whose values are computed on demand, on the CPU.

    Args:
        shape: its shape.
        dtype: its dtype.
        masks: whether numbers in it remove pairs from attention, if it is added to the scores.
    """

    __slots__ = ("dtype", "kept", "masks", "shape")

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, *, masks: bool = False) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype
        self.masks = masks
        #: Room for what `mask_pairs` found for this tensor as a mask.
        self.kept: dict[Any, Any] = {}

    def at(self, index: Sequence[Index], blocks: Blocks) -> torch.Tensor:
        """Return the values at ``index``: a tensor that broadcasts to (N, queries, keys)."""
        raise NotImplementedError

    def axes(self, index: Sequence[Index]) -> int:
        """Return whether the values depend on the query (1), on the key (2), on both (3) or on none (0)."""
        raise NotImplementedError

    def bounds_of_both(self, index: Sequence[Index], blocks: Blocks) -> Bounds | None:
        """Return bounds for values that depend on query and key; None if there are none without all values."""
        raise NotImplementedError

    def bounds(self, index: Sequence[Index], blocks: Blocks) -> Bounds | None:
        """Return the bounds of the values at ``index`` in each block."""
        axes = self.axes(index)
        if axes == 3:
            return self.bounds_of_both(index, blocks)
        values = self.at(index, blocks)
        if values.ndim < 3:
            values = values.reshape(1, 1, -1)
        return Bounds(values.amin((1, 2)), values.amax((1, 2)))

    def whole(self) -> torch.Tensor:
        """Return all values.

        Raises:
            NotKnownError: there are too many.
        """
        raise NotImplementedError

    def check_size(self) -> None:
        """Raise an error if the tensor has too many elements to be computed as a whole."""
        if math.prod(self.shape) > MAX_COMPUTED:
            raise NotKnownError


def _axes_of(index: Sequence[Index], shape: Sequence[int]) -> int:
    found = 0
    for one, size in zip(index, shape, strict=True):
        if size > 1:
            found |= one.axis
    return found


def _positions(one: Index, size: int, blocks: Blocks) -> torch.Tensor | int:
    if size == 1 or not one.axis:
        return 0 if size == 1 else one.start
    return one.start + one.step * blocks.of(one.axis)


class Computed(Deferred):
    """A tensor that is small enough to be computed as a whole. ``compute`` returns it, and is called once."""

    __slots__ = ("_compute", "_values")

    def __init__(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        compute: Callable[[], torch.Tensor],
        *,
        masks: bool = False,
    ) -> None:
        super().__init__(shape, dtype, masks=masks)
        self._compute: Callable[[], torch.Tensor] | None = compute
        self._values: torch.Tensor | None = None

    def whole(self) -> torch.Tensor:
        """Return all values."""
        if self._values is None:
            self.check_size()
            assert self._compute is not None  # noqa: S101 -- it is dropped only when the values are known
            self._values = self._compute().cpu()
            self._compute = None
        return self._values

    def axes(self, index: Sequence[Index]) -> int:
        """Return which positions decide the values."""
        return _axes_of(index, self.shape)

    def at(self, index: Sequence[Index], blocks: Blocks) -> torch.Tensor:
        """Return the values at ``index``."""
        positions = tuple(_positions(one, size, blocks) for one, size in zip(index, self.shape, strict=True))
        values: torch.Tensor = self.whole()[positions] if positions else self.whole()
        return values

    def bounds_of_both(self, index: Sequence[Index], blocks: Blocks) -> Bounds | None:
        """Return nothing: each value has to be looked at."""
        del index, blocks
        return None


class Steps(Deferred):
    """Integers at equal distances along one dimension, as ``arange`` makes them. Other dimensions have the size 1.

    Args:
        shape: the shape of the tensor.
        dtype: a dtype of integers.
        first: the first integer.
        step: the distance.
    """

    __slots__ = ("_first", "_place", "_step")

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, first: int, step: int) -> None:
        super().__init__(shape, dtype)
        self._first, self._step = first, step
        self._place = max(range(len(self.shape)), key=lambda place: self.shape[place])

    def whole(self) -> torch.Tensor:
        """Return all values."""
        self.check_size()
        steps = torch.arange(self.shape[self._place], dtype=self.dtype, device=CPU)
        return (self._first + self._step * steps).reshape(self.shape)

    def axes(self, index: Sequence[Index]) -> int:
        """Return which position decides the values."""
        return _axes_of(index, self.shape)

    def _value(self, position: torch.Tensor | int) -> torch.Tensor:
        return torch.as_tensor(self._first + self._step * position, device=CPU).to(self.dtype)

    def at(self, index: Sequence[Index], blocks: Blocks) -> torch.Tensor:
        """Return the values at ``index``."""
        return self._value(_positions(index[self._place], self.shape[self._place], blocks))

    def bounds(self, index: Sequence[Index], blocks: Blocks) -> Bounds:
        """Return the values at both ends of each block."""
        one = index[self._place]
        values = self._value(_positions(one, self.shape[self._place], blocks.ends))
        if not values.ndim:
            return Bounds(values[None], values[None])
        low, high = values.reshape(-1, 2).unbind(1)
        return Bounds(torch.minimum(low, high), torch.maximum(low, high))

    def bounds_of_both(self, index: Sequence[Index], blocks: Blocks) -> Bounds | None:
        """Return the values at both ends of each block."""
        return self.bounds(index, blocks)


def from_values(values: torch.Tensor, *, masks: bool = False) -> Deferred:
    """Return a `Deferred` of values that are known."""
    flat = values.reshape(-1)
    counts = not (flat.is_floating_point() or flat.is_complex() or flat.dtype is torch.bool)
    if counts and len(flat) > 1 and max(values.shape) == len(flat):
        first, step = int(flat[0]), int(flat[1]) - int(flat[0])
        if torch.equal(flat, (first + step * torch.arange(len(flat), device=flat.device)).to(flat.dtype)):
            return Steps(values.shape, values.dtype, first, step)
    return Computed(values.shape, values.dtype, lambda: values, masks=masks)


class Filled(Deferred):
    """A tensor that is filled with one number."""

    __slots__ = ("_value",)

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, number: float) -> None:
        super().__init__(shape, dtype, masks=removes(number))
        self._value = torch.tensor(number, dtype=dtype, device=CPU)

    def whole(self) -> torch.Tensor:
        """Return all values, in the memory of one."""
        return self._value.expand(self.shape)

    def axes(self, index: Sequence[Index]) -> int:
        """Return 0."""
        del index
        return 0

    def at(self, index: Sequence[Index], blocks: Blocks) -> torch.Tensor:
        """Return the number."""
        del index, blocks
        return self._value


class View(Deferred):
    """A view of another tensor: in each dimension of it, either one element or equally distant ones.

    Args:
        base: the other tensor.
        shape: the shape of the view.
        places: for each dimension of ``base``: (dimension of the view or None, first element, distance).
    """

    __slots__ = ("_places", "base")

    def __init__(self, base: Deferred, shape: Sequence[int], places: Sequence[tuple[int | None, int, int]]) -> None:
        super().__init__(shape, base.dtype, masks=base.masks)
        self.base = base
        self._places = tuple(places)

    def _of_base(self, index: Sequence[Index]) -> list[Index]:
        found = []
        for dimension, start, step in self._places:
            one = FIRST if dimension is None or self.shape[dimension] == 1 else index[dimension]
            found.append(Index(one.axis, start + step * one.start, step * one.step))
        return found

    def whole(self) -> torch.Tensor:
        """Return all values."""
        self.check_size()
        values = self.base.whole()
        of_view = []
        for place, (dimension, start, step) in enumerate(self._places):
            if dimension is None:
                values = values.narrow(place, start, 1)
            else:
                stop = start + step * (self.shape[dimension] - 1) + 1
                values = values[(slice(None),) * place + (slice(start, stop, step),)]
                of_view.append((dimension, place))
        of_view.sort()
        kept = [place for _, place in of_view]
        rest = [place for place in range(values.ndim) if place not in kept]
        values = values.permute(*kept, *rest).reshape([values.shape[place] for place in kept])
        dimensions = [dimension for dimension, _ in of_view]
        return values.reshape([size if place in dimensions else 1 for place, size in enumerate(self.shape)]).expand(
            self.shape
        )

    def axes(self, index: Sequence[Index]) -> int:
        """Return which positions decide the values."""
        return self.base.axes(self._of_base(index))

    def at(self, index: Sequence[Index], blocks: Blocks) -> torch.Tensor:
        """Return the values at ``index``."""
        return self.base.at(self._of_base(index), blocks)

    def bounds_of_both(self, index: Sequence[Index], blocks: Blocks) -> Bounds | None:
        """Return the bounds in the other tensor."""
        return self.base.bounds_of_both(self._of_base(index), blocks)


def _aligned(part: Deferred, index: Sequence[Index]) -> Sequence[Index]:
    """Return the index of an operand. Operands have the last dimensions of the result, or 1 in place of them."""
    return index[len(index) - len(part.shape) :]


class Elementwise(Deferred):
    """The result of an operator that works element by element, or of a cast.

    Args:
        shape: the shape of the result.
        dtype: the dtype of the result.
        info: the operator.
        args: its positional arguments, with a `Deferred` in place of each tensor.
        kwargs: its keyword arguments, which hold no tensors.
        masks: as for `Deferred`.
    """

    __slots__ = ("_args", "_info", "_kwargs")

    def __init__(  # noqa: PLR0913 -- a call and its result
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        info: OperatorInfo,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        masks: bool = False,
    ) -> None:
        super().__init__(shape, dtype, masks=masks)
        self._info, self._args, self._kwargs = info, args, kwargs

    def _run(self, compute: Callable[[Deferred], torch.Tensor]) -> torch.Tensor:
        args = [compute(item) if isinstance(item, Deferred) else item for item in self._args]
        values: torch.Tensor = self._info.operator(*args, **self._kwargs)
        return values

    def whole(self) -> torch.Tensor:
        """Return all values."""
        self.check_size()
        return self._run(lambda part: part.whole()).expand(self.shape)

    def axes(self, index: Sequence[Index]) -> int:
        """Return which positions decide the values."""
        found = 0
        for part in self._args:
            if isinstance(part, Deferred):
                found |= part.axes(_aligned(part, index))
        return found

    def at(self, index: Sequence[Index], blocks: Blocks) -> torch.Tensor:
        """Return the values at ``index``."""
        return self._run(lambda part: part.at(_aligned(part, index), blocks))

    def bounds(self, index: Sequence[Index], blocks: Blocks) -> Bounds | None:
        """Return bounds by the rules of `_RULES`. Without a rule, compute values that depend on one position only."""
        found = self.bounds_of_both(index, blocks)
        return super().bounds(index, blocks) if found is None else found

    def bounds_of_both(self, index: Sequence[Index], blocks: Blocks) -> Bounds | None:
        """Return bounds by the rules of `_RULES`, or None if the operator has no rule."""
        rule = _RULES.get(self._info.name)
        if rule is None or (self._kwargs and self._info.name not in _CASTS):
            return None
        sides = []
        for part in self._args:
            if isinstance(part, Deferred):
                side = part.bounds(_aligned(part, index), blocks)
            elif isinstance(part, (int, float)):
                number = torch.tensor([part], device=CPU)
                side = Bounds(number, number)
            else:
                side = None
            if side is None:
                return None
            sides.append(side)
            if self._info.name in _CASTS:
                return Bounds(side.low.to(self.dtype), side.high.to(self.dtype))
        return rule(*sides)


class Triangle(Deferred):
    """The upper or lower triangle of a tensor (..., rows, columns), with 0 outside of it: ``triu`` and ``tril``."""

    __slots__ = ("_base", "_diagonal", "_upper")

    def __init__(self, base: Deferred, diagonal: int, *, upper: bool) -> None:
        super().__init__(base.shape, base.dtype, masks=base.masks)
        self._base, self._diagonal, self._upper = base, diagonal, upper

    def whole(self) -> torch.Tensor:
        """Return all values."""
        self.check_size()
        return (torch.triu if self._upper else torch.tril)(self._base.whole(), self._diagonal)

    def axes(self, index: Sequence[Index]) -> int:
        """Return which positions decide the values."""
        return _axes_of(index[-2:], self.shape[-2:]) | self._base.axes(index)

    def _inside(self, index: Sequence[Index], blocks: Blocks) -> torch.Tensor:
        row, column = (_positions(one, size, blocks) for one, size in zip(index[-2:], self.shape[-2:], strict=True))
        apart = torch.as_tensor(column - row, device=CPU)
        return apart >= self._diagonal if self._upper else apart <= self._diagonal

    def at(self, index: Sequence[Index], blocks: Blocks) -> torch.Tensor:
        """Return the values at ``index``."""
        values = self._base.at(index, blocks)
        return torch.where(self._inside(index, blocks), values, torch.zeros((), dtype=self.dtype, device=CPU))

    def bounds_of_both(self, index: Sequence[Index], blocks: Blocks) -> Bounds | None:
        """Return the bounds of ``base`` inside, 0 outside, and both where a block has a part inside."""
        base = self._base.bounds(index, blocks)
        if base is None:
            return None
        inside = self._inside(index, blocks.ends).expand(-1, 2, 2)
        nothing = torch.zeros((), dtype=self.dtype, device=CPU)
        some, every = inside.amax((1, 2)), inside.amin((1, 2))
        low, high = torch.minimum(base.low, nothing), torch.maximum(base.high, nothing)
        return Bounds(
            torch.where(every, base.low, torch.where(some, low, nothing)),
            torch.where(every, base.high, torch.where(some, high, nothing)),
        )


class Gathered(Deferred):
    """The elements of a tensor at positions that are tensors: ``lengths[batch, position]``."""

    __slots__ = ("_base", "_positions")

    def __init__(self, base: Deferred, positions: Sequence[Deferred], shape: Sequence[int]) -> None:
        super().__init__(shape, base.dtype, masks=base.masks)
        self._base, self._positions = base, tuple(positions)

    def whole(self) -> torch.Tensor:
        """Return all values."""
        self.check_size()
        return self._base.whole()[tuple(item.whole() for item in self._positions)].expand(self.shape)

    def axes(self, index: Sequence[Index]) -> int:
        """Return which positions decide the values."""
        found = 0
        for item in self._positions:
            found |= item.axes(_aligned(item, index))
        return found

    def at(self, index: Sequence[Index], blocks: Blocks) -> torch.Tensor:
        """Return the values at ``index``."""
        values: torch.Tensor = self._base.whole()[
            tuple(item.at(_aligned(item, index), blocks) for item in self._positions)
        ]
        return values

    def bounds_of_both(self, index: Sequence[Index], blocks: Blocks) -> Bounds | None:
        """Return nothing: each value has to be looked at."""
        del index, blocks
        return None


class Unknown(Deferred):
    """A mask whose values are not known, although it is certainly a mask."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        super().__init__(shape, dtype, masks=True)

    def whole(self) -> torch.Tensor:
        """Raise an error."""
        raise NotKnownError

    def axes(self, index: Sequence[Index]) -> int:
        """Raise an error."""
        del index
        raise NotKnownError

    def at(self, index: Sequence[Index], blocks: Blocks) -> torch.Tensor:
        """Raise an error."""
        del index, blocks
        raise NotKnownError

    def bounds_of_both(self, index: Sequence[Index], blocks: Blocks) -> Bounds | None:
        """Raise an error."""
        del index, blocks
        raise NotKnownError


def removes(number: float) -> bool:
    """Return whether a score gets no weight if it is replaced by this number."""
    return number <= _LOWEST_FILL


#: Models write -1e4, -1e9, the lowest number of the dtype, or -inf in place of scores.
_LOWEST_FILL = -1e4


def _decided(true: torch.Tensor, false: torch.Tensor) -> Bounds:
    return Bounds(true, ~false)


def _less(one: Bounds, other: Bounds) -> Bounds:
    return _decided(one.high < other.low, one.low >= other.high)


def _less_equal(one: Bounds, other: Bounds) -> Bounds:
    return _decided(one.high <= other.low, one.low > other.high)


def _equal(one: Bounds, other: Bounds) -> Bounds:
    same = (one.low == one.high) & (other.low == other.high) & (one.low == other.low)
    return _decided(same, (one.high < other.low) | (one.low > other.high))


def _not(one: Bounds) -> Bounds:
    return Bounds(~one.high, ~one.low)


def _truth(one: Bounds) -> Bounds:
    """Return the bounds of ``!= 0``."""
    if one.low.dtype is torch.bool:
        return one
    return _decided((one.low > 0) | (one.high < 0), (one.low == 0) & (one.high == 0))


def _both(one: Bounds, other: Bounds) -> Bounds:
    one, other = _truth(one), _truth(other)
    return Bounds(one.low & other.low, one.high & other.high)


def _either(one: Bounds, other: Bounds) -> Bounds:
    one, other = _truth(one), _truth(other)
    return Bounds(one.low | other.low, one.high | other.high)


def _bits(rule: Callable[..., Bounds]) -> Callable[..., Bounds | None]:
    """Return the rule for truth values, and none for the bits of integers."""

    def only_truth(*sides: Bounds) -> Bounds | None:
        return rule(*sides) if all(side.low.dtype is torch.bool for side in sides) else None

    return only_truth


def _product(one: Bounds, other: Bounds) -> Bounds | None:
    corners = [a * b for a in one for b in other]
    if any(bool(corner.isnan().any()) for corner in corners):
        return None
    low, high = corners[0], corners[0]
    for corner in corners[1:]:
        low, high = torch.minimum(low, corner), torch.maximum(high, corner)
    return Bounds(low, high)


def _quotient(one: Bounds, other: Bounds) -> Bounds | None:
    if other.low.numel() != 1 or int(other.low) != int(other.high) or int(other.low) <= 0:
        return None
    return Bounds(one.low // other.low, one.high // other.low)


def _where(condition: Bounds, one: Bounds, other: Bounds) -> Bounds:
    condition = _truth(condition)
    return Bounds(
        torch.where(
            condition.low,
            one.low,
            torch.where(condition.high, torch.minimum(one.low, other.low), other.low),
        ),
        torch.where(
            condition.low,
            one.high,
            torch.where(condition.high, torch.maximum(one.high, other.high), other.high),
        ),
    )


def _masked_fill(values: Bounds, mask: Bounds, number: Bounds) -> Bounds:
    return _where(mask, number, values)


def _absolute(one: Bounds) -> Bounds:
    low, high = one.low.abs(), one.high.abs()
    crosses = (one.low <= 0) & (one.high >= 0)
    return Bounds(torch.where(crosses, torch.zeros_like(low), torch.minimum(low, high)), torch.maximum(low, high))


_CASTS = ("aten._to_copy", "aten.clone")

#: Operator → a function from the bounds of its operands to those of its result.
_RULES: dict[str, Callable[..., Bounds | None]] = {
    "aten.lt": _less,
    "aten.le": _less_equal,
    "aten.gt": lambda one, other: _less(other, one),
    "aten.ge": lambda one, other: _less_equal(other, one),
    "aten.eq": _equal,
    "aten.ne": lambda one, other: _not(_equal(one, other)),
    "aten.logical_not": lambda one: _not(_truth(one)),
    "aten.bitwise_not": _bits(_not),
    "aten.logical_and": _both,
    "aten.bitwise_and": _bits(_both),
    "aten.logical_or": _either,
    "aten.bitwise_or": _bits(_either),
    "aten.add": lambda one, other: Bounds(one.low + other.low, one.high + other.high),
    "aten.sub": lambda one, other: Bounds(one.low - other.high, one.high - other.low),
    "aten.rsub": lambda one, other: Bounds(other.low - one.high, other.high - one.low),
    "aten.neg": lambda one: Bounds(-one.high, -one.low),
    "aten.abs": _absolute,
    "aten.mul": _product,
    "aten.floor_divide": _quotient,
    "aten.where": _where,
    "aten.masked_fill": _masked_fill,
    **dict.fromkeys(_CASTS, lambda one: one),
}
