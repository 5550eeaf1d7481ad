"""Fit exact expressions to counts, and check each by counts that the fit did not use."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import product
from math import lcm
from typing import TYPE_CHECKING

from pytest_flopsbudget.laws.algebra.linear import Independent, degree_of, inverse
from pytest_flopsbudget.laws.algebra.terms import Expression, NotExactError, symbol_expression

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_flopsbudget.laws.algebra.domains import Domain, Point
    from pytest_flopsbudget.laws.counts import Counts, Key

#: Neighbouring sizes that are counted for each symbol: first the smallest number, and more for a higher degree.
_FEW, _MORE, _MANY = 3, 4, 6
#: The number of random points that check an expression.
CHANCES = 3


class NoValueError(Exception):
    """A module does not exist at a point, so its metrics have no value there."""


@dataclass(frozen=True, slots=True)
class Refutation:
    """A point at which an expression is wrong."""

    point: Point
    expected: Fraction
    counted: int
    #: Whether other modules or operators ran than at the smallest sizes.
    other_program: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """An expression for a domain, and the points that refute it."""

    #: None if not even neighbouring sizes fit one polynomial.
    expression: Expression | None
    refuted: tuple[Refutation, ...] = ()
    #: Symbol → degree along its axis.
    degrees: Mapping[str, int] = field(default_factory=dict)
    #: The first symbol for which neighbouring sizes fit no polynomial.
    bad_symbol: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the expression is right at all points that were tried."""
        return self.expression is not None and not self.refuted


class Fitter:
    """Fits one value of the counts on domains.

    Args:
        counts: the counts.
        key: the value.
        degree: the largest degree of polynomials.
    """

    def __init__(self, counts: Counts, key: Key, degree: int) -> None:
        self.counts, self.key, self.degree = counts, key, degree
        self._values: dict[Point, int] = {}

    def value(self, point: Point) -> int:
        """Return the counted value at a point.

        Raises:
            NoValueError: there is none.
        """
        known = self._values.get(point)
        if known is None:
            value = self.counts.value(self.key, point)
            if value is None:
                raise NoValueError
            known = self._values[point] = value
        return known

    def same_program(self, point: Point, other: Point) -> bool:
        """Return whether the same modules ran the same operators at both points."""
        return self.counts.at(point).program == self.counts.at(other).program

    def agrees(self, expression: Expression, point: Point, base: Point) -> bool:
        """Return whether the expression is right at ``point``, and the modules and operators of ``base`` run there."""
        return self.refutation(expression, point, base) is None

    def refutation(self, expression: Expression, point: Point, base: Point) -> Refutation | None:
        """Return how ``point`` refutes the expression; None if it does not."""
        counted = self.value(point)
        try:
            expected = expression.at(self.counts.named(point))
        except NotExactError:
            return Refutation(point, Fraction(0), counted, other_program=False)
        other = not self.same_program(point, base)
        return Refutation(point, expected, counted, other) if expected != counted or other else None

    def refutations(self, expression: Expression, domain: Domain, points: Iterable[Point]) -> tuple[Refutation, ...]:
        """Return the first points that refute the expression, at most two."""
        found = []
        base = domain.lowest
        for point in dict.fromkeys(points):
            refutation = self.refutation(expression, point, base)
            if refutation is not None:
                found.append(refutation)
                if len(found) == _ENOUGH:
                    break
        return tuple(found)

    def check_points(self, domain: Domain, more: int = 0) -> list[Point]:
        """Return points that check an expression on a domain.

        These are far corners, the middle, random points, and a point of multiples of the model's settings. At that
        point, padding to whole windows, for example, does not run.
        """
        # The searches of all values share these points.
        known, place = self.counts.check_points, (domain, more, len(self.counts.periods))
        found = known.get(place)
        if found is None:
            even = tuple(_most_even(domain.sizes(symbol), self.counts.settings) for symbol in domain.symbols)
            points = [*domain.spread_points(CHANCES + more), even, *domain.corners(), *self._periods(domain)]
            found = known[place] = list(dict.fromkeys(points))
        return found

    def _periods(self, domain: Domain) -> Iterable[Point]:
        """Yield neighbouring sizes of each symbol for which a period was found.

        They have each remainder modulo the period, and modulo longer periods, of which the found one may be a part: a
        padding to 2 before a stride of 3 changes one size in 6.
        """
        for symbol, period in sorted(self.counts.periods):
            sizes = domain[symbol]
            if sizes.step == self.counts.step(symbol) and symbol not in domain.powers_of_two and period <= _LONGEST:
                place = domain.symbols.index(symbol)
                number = max(period, _NEIGHBOURS)
                start = max(0, min(len(sizes) // 2, len(sizes) - number))
                for size in sizes[start : start + number]:
                    yield (*domain.lowest[:place], size, *domain.lowest[place + 1 :])

    def axis(self, domain: Domain, symbol: str, number: int) -> list[Point]:
        """Return the points with the first ``number`` sizes of one symbol and the smallest sizes of the others."""
        place, lowest = domain.symbols.index(symbol), domain.lowest
        return [(*lowest[:place], size, *lowest[place + 1 :]) for size in domain.sizes(symbol)[:number]]

    def degree_along(self, domain: Domain, symbol: str) -> int | None:
        """Return the degree of the polynomial through the first sizes of a symbol; None if they fit none.

        At least one of the sizes is not needed for the polynomial, and checks it.
        """
        sizes = domain.sizes(symbol)
        base = domain.lowest
        for number in (_FEW, _MORE, _MANY):
            points = self.axis(domain, symbol, number)
            if not all(self.same_program(point, base) for point in points):
                return None
            degree = degree_of([self.value(point) for point in points])
            if degree <= min(self.degree, len(points) - 2) or len(sizes) <= _ENOUGH:
                return degree
        return None

    def polynomial(self, domain: Domain) -> Fit:
        """Fit a polynomial to the smallest sizes of a domain, and check it at points that are far from them."""
        degrees: dict[str, int] = {}
        for symbol in domain.symbols:
            degree = self.degree_along(domain, symbol)
            if degree is None:
                return Fit(None, self._refute_any(domain, symbol), degrees, symbol)
            degrees[symbol] = degree
        features = {symbol: powers(symbol, degree) for symbol, degree in degrees.items()}
        nodes = {symbol: domain.sizes(symbol)[: degree + 1] for symbol, degree in degrees.items()}
        # The polynomial is right at the smallest sizes of each symbol, because its degrees are those of their values.
        expression = self.solve(features, nodes)
        return Fit(expression, self.refutations(expression, domain, self.check_points(domain)), degrees)

    def _refute_any(self, domain: Domain, symbol: str) -> tuple[Refutation, ...]:
        """Return points that refute the polynomial of the largest degree through the first sizes of ``symbol``."""
        sizes = domain.sizes(symbol)
        degree = max(0, min(self.degree, len(sizes) - 2))
        nodes = {name: domain.sizes(name)[:1] for name in domain.symbols} | {symbol: sizes[: degree + 1]}
        features = {name: powers(name, 0) for name in domain.symbols} | {symbol: powers(symbol, degree)}
        expression = self.solve(features, nodes)
        place = domain.symbols.index(symbol)
        far = [
            (*domain.lowest[:place], point[place], *domain.lowest[place + 1 :]) for point in self.check_points(domain)
        ]
        return self.refutations(expression, domain, [*self.axis(domain, symbol, _MANY), *far])

    def fit(self, domain: Domain, features: Mapping[str, Sequence[Expression]], preferred: Iterable[int] = ()) -> Fit:
        """Fit the products of given features of each symbol, and check the result.

        Args:
            domain: the domain.
            features: symbol → expressions of this symbol.
            preferred: sizes to use first, of the symbol with the most features, because they are counted already.
        """
        largest = max(features, key=lambda symbol: len(features[symbol]))
        chosen: dict[str, Sequence[Expression]] = {}
        nodes: dict[str, Sequence[int]] = {}
        for symbol in domain.symbols:
            sizes = domain.sizes(symbol)
            candidates = [size for size in preferred if size in sizes] if symbol == largest else []
            candidates += [*sizes[:_SAMPLES], *sizes[:: max(1, len(sizes) // _SAMPLES)]]
            candidates = list(dict.fromkeys(candidates))
            chosen[symbol], nodes[symbol] = _choose(tuple(features[symbol]), symbol, tuple(candidates))
        near = [point for symbol in domain.symbols for point in self.axis(domain, symbol, _MANY)]
        checks = dict.fromkeys([*near, *self.check_points(domain, _MANY)])
        unused = [point for point in checks if any(map(_is_missing, point, nodes.values()))]
        if len(unused) < _ENOUGH:
            return Fit(None)
        expression = self.solve(chosen, nodes)
        return Fit(expression, self.refutations(expression, domain, checks))

    def solve(self, features: Mapping[str, Sequence[Expression]], nodes: Mapping[str, Sequence[int]]) -> Expression:
        """Return the combination of products of features that is right at all combinations of nodes."""
        symbols = tuple(nodes)
        # One symbol after the other: values at nodes become coefficients of features, times a common denominator.
        places = product(*(range(len(nodes[symbol])) for symbol in symbols))
        points = product(*(nodes[symbol] for symbol in symbols))
        grid = {at: self.value(point) for at, point in zip(places, points, strict=True)}
        denominator = 1
        for place, symbol in enumerate(symbols):
            factor, weights = _weights(symbol, tuple(features[symbol]), tuple(nodes[symbol]))
            denominator *= factor
            grid = {
                at: sum(
                    weight * grid[(*at[:place], column, *at[place + 1 :])]
                    for column, weight in enumerate(weights[at[place]])
                    if weight
                )
                for at in grid
            }
        result = Expression()
        for at, coefficient in grid.items():
            if coefficient:
                term = Expression({(): Fraction(coefficient, denominator)})
                for place, symbol in enumerate(symbols):
                    term *= features[symbol][at[place]]
                result += term
        return result


#: Periods of at most this many sizes are checked at every remainder.
_LONGEST = 36
#: The smallest number of neighbouring sizes that check a law with a period. It is a multiple of 2, 3, 4 and 6, so the
#: sizes also show a period that is made of two of these.
_NEIGHBOURS = 12
#: Two wrong points are enough to refute an expression, and a range of two sizes needs no check by a third size.
_ENOUGH = 2
#: Sizes among which the nodes of a fit are chosen.
_SAMPLES = 160


def _most_even(sizes: Sequence[int], settings: Iterable[int]) -> int:
    """Return a size that is a multiple of the product of many settings; the last size if there is no such size."""
    multiple, found = 1, sizes[-1]
    for setting in sorted(settings):
        larger = multiple * setting
        place = next((size for size in range(sizes[-1] // larger * larger, sizes[0], -larger) if size in sizes), None)
        if place is not None:
            multiple, found = larger, place
    return found


@lru_cache(maxsize=64)
def powers(symbol: str, degree: int) -> tuple[Expression, ...]:
    """Return 1, x, x^2, ... up to the degree."""
    return tuple(symbol_expression(symbol) ** power for power in range(degree + 1))


@lru_cache(maxsize=512)
def _weights(
    symbol: str, features: tuple[Expression, ...], nodes: tuple[int, ...]
) -> tuple[int, tuple[tuple[int, ...], ...]]:
    """Return a number, and this number times the matrix that turns values at the nodes into coefficients."""
    exact = inverse(tuple(tuple(int(feature.at({symbol: size})) for feature in features) for size in nodes))
    denominator = lcm(*(weight.denominator for row in exact for weight in row))
    return denominator, tuple(tuple(int(weight * denominator) for weight in row) for row in exact)


def _is_missing(size: int, nodes: Sequence[int]) -> bool:
    return size not in nodes


@lru_cache(maxsize=256)
def _choose(
    features: tuple[Expression, ...], symbol: str, candidates: tuple[int, ...]
) -> tuple[tuple[Expression, ...], tuple[int, ...]]:
    """Return features that are linearly independent on the candidates, and as many of these as nodes."""
    order = sorted(candidates)
    sample = order[:: max(1, len(order) // _SAMPLES)]
    columns, rows = Independent(), Independent()
    chosen = tuple(feature for feature in features if columns.add([int(feature.at({symbol: size})) for size in sample]))
    nodes: list[int] = []
    for size in candidates:
        if len(nodes) == len(chosen):
            break
        if rows.add([int(feature.at({symbol: size})) for feature in chosen]):
            nodes.append(size)
    return chosen, tuple(nodes)
