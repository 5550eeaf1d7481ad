"""Domains: the sizes for which a law or a piece of it holds."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise, product
from math import gcd, isqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: A size of each symbol, in the order of the domain's symbols.
Point = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Domain:
    """A grid of sizes: one range for each symbol. No range is empty, and all steps are positive."""

    ranges: tuple[tuple[str, range], ...]
    #: Symbols for which only powers of two belong to the domain, and not the other sizes of the range.
    powers_of_two: frozenset[str] = frozenset()

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols, in order."""
        return tuple([symbol for symbol, _ in self.ranges])

    def __getitem__(self, symbol: str) -> range:
        for name, sizes in self.ranges:
            if name == symbol:
                return sizes
        raise KeyError(symbol)

    def __len__(self) -> int:
        size = 1
        for _, sizes in self.ranges:
            size *= len(sizes)
        return size

    def contains(self, sizes: Mapping[str, int]) -> bool:
        """Return whether the domain contains the point with these sizes."""
        return all(
            sizes[symbol] in allowed and (symbol not in self.powers_of_two or _is_power_of_two(sizes[symbol]))
            for symbol, allowed in self.ranges
        )

    def named(self, point: Point) -> dict[str, int]:
        """Return symbol → size for a point."""
        return dict(zip(self.symbols, point, strict=True))

    def sizes(self, symbol: str) -> tuple[int, ...] | range:
        """Return the sizes of one symbol, the smallest first."""
        allowed = self[symbol]
        if symbol not in self.powers_of_two or not allowed:
            return allowed
        powers = (1 << exponent for exponent in range(allowed[-1].bit_length()))
        return tuple(size for size in powers if size in allowed)

    @property
    def lowest(self) -> Point:
        """The smallest size of each symbol."""
        if not self.powers_of_two:
            return tuple([sizes[0] for _, sizes in self.ranges])
        return tuple(self.sizes(symbol)[0] for symbol in self.symbols)

    @property
    def highest(self) -> Point:
        """The largest size of each symbol."""
        return tuple(self.sizes(symbol)[-1] for symbol in self.symbols)

    def with_range(self, symbol: str, sizes: range) -> Domain:
        """Return the domain with another range for one symbol."""
        ranges = tuple((name, sizes if name == symbol else before) for name, before in self.ranges)
        return Domain(ranges, self.powers_of_two)

    def split(self, symbol: str, place: int) -> tuple[Domain, Domain]:
        """Return the parts of the domain before and from the size at index ``place`` of the symbol's range."""
        return self.with_range(symbol, self[symbol][:place]), self.with_range(symbol, self[symbol][place:])

    def common(self, other: Domain) -> Domain | None:
        """Return the sizes that both domains contain; None if there are none, or if their symbols differ."""
        if set(self.symbols) != set(other.symbols):
            return None
        ranges = tuple((symbol, common_sizes(sizes, other[symbol])) for symbol, sizes in self.ranges)
        found = Domain(ranges, self.powers_of_two | other.powers_of_two)
        return found if all(found.sizes(symbol) for symbol in found.symbols) else None

    def residues(self, symbol: str, count: int) -> list[Domain]:
        """Return ``count`` parts. Each has every ``count``-th size of the symbol."""
        sizes = self[symbol]
        return [self.with_range(symbol, sizes[first::count]) for first in range(min(count, len(sizes)))]

    def spread_points(self, count: int) -> Iterator[Point]:
        """Yield points that are far from each other.

        These are the highest corner, the middle on a logarithmic scale, and ``count`` random points: each range is
        divided into ``count`` equal parts, and each part has one random point. All points are the same in every run.
        """
        all_sizes = [self.sizes(symbol) for symbol in self.symbols]
        yield self.highest
        middle = [isqrt(max(sizes[0], 1) * max(sizes[-1], 1)) for sizes in all_sizes]
        yield tuple(_nearest(sizes, size) for sizes, size in zip(all_sizes, middle, strict=True))
        chance = random.Random(str(self.ranges))  # noqa: S311 -- no secret depends on these points
        columns = []
        for sizes in all_sizes:
            ends = [len(sizes) * part // count for part in range(count + 1)]
            column = [sizes[chance.randrange(start, max(start + 1, end))] for start, end in pairwise(ends)]
            columns.append(chance.sample(column, count))
        yield from zip(*columns, strict=True)

    def corners(self) -> Iterator[Point]:
        """Yield the points with the smallest or the largest size of each symbol."""
        yield from product(*({self.sizes(s)[0]: 0, self.sizes(s)[-1]: 0} for s in self.symbols))

    def text(self, letters: Mapping[str, str] | None = None, *, signs: bool = True) -> str:
        """Return the domain as text: "S = 128 … 8,192", "n = 64, 96 … 1,024"."""
        parts = []
        for symbol, _ in self.ranges:
            sizes = self.sizes(symbol)
            name = (letters or {}).get(symbol, symbol)
            dots = "\u2026" if signs else "..."
            if len(sizes) == 1:
                text = f"{sizes[0]:,}"
            elif symbol in self.powers_of_two or self[symbol].step > 1:
                text = f"{sizes[0]:,}, {sizes[1]:,} {dots} {sizes[-1]:,}"
            else:
                text = f"{sizes[0]:,} {dots} {sizes[-1]:,}"
            parts.append(f"{name} = {text}")
        return ", ".join(parts)


def short_names(symbols: Sequence[str]) -> dict[str, str]:
    """Return symbol → its first letter as a capital, or the whole symbol where two symbols share it."""
    first = [symbol if len(symbol) == 1 else symbol[0].upper() for symbol in symbols]
    return {
        symbol: letter if first.count(letter) == 1 else symbol for symbol, letter in zip(symbols, first, strict=True)
    }


def common_sizes(one: range, other: range) -> range:
    """Return the sizes that two growing ranges share. The result is empty if there are none."""
    if not one or not other:
        return range(0)
    shared = gcd(one.step, other.step)
    distance = other.start - one.start
    if distance % shared:
        return range(0)
    step = one.step // shared * other.step
    # By the Chinese remainder theorem, one size of every `step` has the remainders of both ranges.
    rest = other.step // shared
    first = one.start + one.step * (distance // shared * pow(one.step // shared, -1, rest) % rest)
    start = max(one.start, other.start)
    first += -(-(start - first) // step) * step
    return range(first, min(one[-1], other[-1]) + 1, step)


def _is_power_of_two(size: int) -> bool:
    return size > 0 and not size & (size - 1)


def _nearest(sizes: tuple[int, ...] | range, wanted: int) -> int:
    if isinstance(sizes, range):
        place = (wanted - sizes.start) // sizes.step
        return sizes[min(max(place, 0), len(sizes) - 1)]
    return min(sizes, key=lambda size: abs(size - wanted))
