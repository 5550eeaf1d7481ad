"""Domains: the sizes for which a law or a piece of it holds."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise, product
from math import isqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
        return tuple(symbol for symbol, _ in self.ranges)

    def __getitem__(self, symbol: str) -> range:
        return dict(self.ranges)[symbol]

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
        return tuple(filter(_is_power_of_two, allowed)) if symbol in self.powers_of_two else allowed

    @property
    def lowest(self) -> Point:
        """The smallest size of each symbol."""
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


def _is_power_of_two(size: int) -> bool:
    return size > 0 and not size & (size - 1)


def _nearest(sizes: tuple[int, ...] | range, wanted: int) -> int:
    if isinstance(sizes, range):
        place = (wanted - sizes.start) // sizes.step
        return sizes[min(max(place, 0), len(sizes) - 1)]
    return min(sizes, key=lambda size: abs(size - wanted))
