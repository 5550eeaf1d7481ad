"""What a law means for its sizes: what doubling a size costs, and where one term overtakes another."""

from __future__ import annotations

import bisect
from itertools import islice, pairwise
from typing import TYPE_CHECKING, NamedTuple

from pytest_flopsbudget.laws.algebra.orders import Order
from pytest_flopsbudget.laws.algebra.terms import Expression
from pytest_flopsbudget.results.growth import first_overtaking

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from fractions import Fraction

    from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw, Piece

#: The number of sizes at each end of a range that are tried for a size whose double is in the range too.
_TRIED = 64


class Doubling(NamedTuple):
    """What a metric costs for twice a size."""

    #: The smaller one of the two sizes.
    size: int
    #: The value for twice the size, divided by the value for the size.
    factor: Fraction


class Crossing(NamedTuple):
    """Terms of a law, and those that grow more slowly."""

    faster: Expression
    slower: Expression
    #: The smallest size for which the faster terms are more than the slower ones; None if none was found.
    size: int | None
    #: Whether this is the smallest size of the range.
    always: bool
    #: Whether the law holds for the size.
    in_range: bool


def value_at(law: MetricLaw, point: Mapping[str, int]) -> Fraction | None:
    """Return the value at a point; None if the law does not hold there."""
    piece = next((piece for piece in law.pieces if piece.domain.contains(point)), None)
    return None if piece is None else piece.expression.at(point)


def doublings(law: MetricLaw, symbol: str) -> list[Doubling]:
    """Return what doubling a size costs, for the smallest and for the largest size whose double is in the range.

    The other symbols have their largest sizes.
    """
    others = law.domain.named(law.domain.highest)
    sizes = law.domain.sizes(symbol)
    small = (size for size in islice(sizes, _TRIED))
    half = bisect.bisect_right(sizes, sizes[-1] // 2)
    large = (sizes[place] for place in range(half - 1, max(-1, half - 1 - _TRIED), -1))
    found = [one for tried in (small, large) if (one := _first_doubling(law, symbol, others, tried)) is not None]
    return list(dict.fromkeys(found))


def _first_doubling(law: MetricLaw, symbol: str, others: Mapping[str, int], tried: Iterable[int]) -> Doubling | None:
    for size in tried:
        before, after = (value_at(law, {**others, symbol: one}) for one in (size, 2 * size))
        if size and before and after is not None:
            return Doubling(size, after / before)
    return None


def crossings(law: MetricLaw, symbol: str) -> Iterator[Crossing]:
    """Yield where terms of the law overtake those that grow more slowly with a symbol, for the largest sizes."""
    if not law.found:
        return
    piece = max(law.last_pieces(symbol) or law.pieces, key=lambda one: Order(*one.expression.orders(symbol)))
    for faster, slower in pairwise(_by_order(piece, symbol)):
        size = first_overtaking(faster - slower, piece, symbol)
        first = piece.domain.sizes(symbol)[0]
        yield Crossing(faster, slower, size, size == first, size is not None and size in piece.domain[symbol])


def _by_order(piece: Piece, symbol: str) -> list[Expression]:
    """Return the sums of terms that grow alike with a symbol. Those that grow fastest come first."""
    groups: dict[Order, Expression] = {}
    for monomial, coefficient in piece.expression.terms.items():
        term = Expression({monomial: coefficient})
        order = Order(*term.orders(symbol))
        groups[order] = groups.get(order, Expression()) + term
    return [groups[order] for order in sorted(groups, reverse=True)]
