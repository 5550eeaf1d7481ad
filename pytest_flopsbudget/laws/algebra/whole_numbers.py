"""Where a polynomial is positive on a range of whole numbers. The answer is exact; no root is approximated."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import prod
from typing import TYPE_CHECKING

from pytest_flopsbudget.laws.algebra.terms import Atom, Expression, constant, symbol_expression

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_flopsbudget.laws.algebra.domains import Domain


def positive_sizes(expression: Expression, symbol: str, sizes: range) -> Iterator[range]:
    """Yield the parts of ``sizes`` for which the expression is positive. The smallest sizes of a part come first.

    Parts from different residues of a rounded quotient may overlap in their extent, and are not sorted.

    Args:
        expression: an expression with no other symbol than ``symbol``.
        symbol: the symbol.
        sizes: the sizes to look at.
    """
    for part, polynomial in _polynomials(expression, symbol, sizes):
        coefficients = _coefficients(polynomial, symbol, part)
        for start, stop in _positive(coefficients, 0, len(part)):
            yield part[start:stop]


def first_positive(expression: Expression, symbol: str, sizes: range) -> int | None:
    """Return the smallest size for which the expression is positive; None if there is none."""
    return min((part[0] for part in positive_sizes(expression, symbol, sizes)), default=None)


def _polynomials(expression: Expression, symbol: str, sizes: range) -> Iterator[tuple[range, Expression]]:
    """Yield parts of ``sizes``, and an equal expression without rounded quotients and logarithms for each part."""
    atom = min((atom for atom in expression.atoms() if atom.kind != "symbol"), default=None)
    if not sizes:
        return
    if atom is None:
        yield sizes, expression
    elif atom.kind == "quotient":
        for start in range(min(atom.divisor, len(sizes))):
            part = sizes[start :: atom.divisor]
            # The sizes of a part have equal remainders, so the quotient is linear in the size.
            rest = (part[0] + atom.shift) % atom.divisor
            linear = (symbol_expression(symbol) + constant(atom.shift - rest)).scaled(Fraction(1, atom.divisor))
            yield from _polynomials(expression.substitute(atom, linear), symbol, part)
    else:
        start = 0
        while start < len(sizes):
            value = atom.value(sizes[start])
            stop = _last_equal(atom, sizes, start, value) + 1
            yield from _polynomials(expression.substitute(atom, constant(value)), symbol, sizes[start:stop])
            start = stop


def _last_equal(atom: Atom, sizes: range, start: int, value: int) -> int:
    if atom.kind == "log":
        return start
    low, high = start, len(sizes) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if atom.value(sizes[middle]) == value else (low, middle - 1)
    return low


def _coefficients(polynomial: Expression, symbol: str, sizes: range) -> list[Fraction]:
    """Return the coefficients as a polynomial of the index into ``sizes``, the constant first."""
    index = Atom("index")
    size = constant(sizes.start) + Expression({((index, 1),): sizes.step})
    moved = polynomial.substitute(Atom(symbol), size)
    found = [Fraction(0)] * (1 + max((exponent for term in moved.terms for _, exponent in term), default=0))
    for term, coefficient in moved.terms.items():
        found[sum(exponent for _, exponent in term)] += coefficient
    return found


def _value(coefficients: Sequence[Fraction], index: int) -> Fraction:
    total = Fraction(0)
    for coefficient in reversed(coefficients):
        total = total * index + coefficient
    return total


def _step(coefficients: Sequence[Fraction]) -> list[Fraction]:
    """Return the coefficients of p(u + 1) - p(u)."""
    moved = [Fraction(0)] * len(coefficients)
    for power, coefficient in enumerate(coefficients):
        binomial = 1
        for lower in range(power, -1, -1):
            moved[lower] += coefficient * binomial
            binomial = binomial * lower // (power - lower + 1)
    return [after - before for before, after in zip(coefficients, moved, strict=True)][:-1]


def _positive(coefficients: Sequence[Fraction], start: int, stop: int) -> list[tuple[int, int]]:
    """Return the intervals of start ... stop - 1 on which the polynomial is positive."""
    if start >= stop:
        return []
    if len(coefficients) <= 1:
        return [(start, stop)] if coefficients and coefficients[0] > 0 else []
    # Between two changes of the sign of the step p(u + 1) - p(u), the polynomial only grows or never grows.
    growing = _positive(_step(coefficients), start, stop - 1)
    found: list[tuple[int, int]] = []
    for first, last in _segments(growing, start, stop - 1):
        at_first, at_last = _value(coefficients, first) > 0, _value(coefficients, last) > 0
        if at_first and at_last:
            found.append((first, last + 1))
        elif at_first or at_last:
            change = _first_with(coefficients, first, last, positive=at_last)
            found.append((change, last + 1) if at_last else (first, change))
    return _merged(found)


def _segments(growing: Sequence[tuple[int, int]], start: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last) for pieces of start ... last on which the polynomial is monotone. Neighbours share an end."""
    place = start
    for first, stop in growing:
        if place < first:
            yield place, first
        yield first, stop
        place = stop
    if place < last or start == last:
        yield place, last


def _first_with(coefficients: Sequence[Fraction], low: int, high: int, *, positive: bool) -> int:
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if (_value(coefficients, middle) > 0) == positive else (middle, high)
    return high


def _merged(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


def is_zero(expression: Expression, domain: Domain) -> bool:
    """Return whether the expression is 0 at every point of the domain."""
    if not expression:
        return True
    symbol = min(domain.powers_of_two & expression.symbols(), default=None)
    if symbol is not None:
        return all(
            is_zero(expression.fixed(symbol, size), domain.with_range(symbol, range(size, size + 1)))
            for size in domain.sizes(symbol)
        )
    for symbol, sizes in domain.ranges:
        if any(atom.kind != "symbol" and atom.symbol == symbol for atom in expression.atoms()):
            return all(
                is_zero(polynomial, domain.with_range(symbol, part))
                for part, polynomial in _polynomials(expression, symbol, sizes)
            )
    for symbol, sizes in domain.ranges:
        # A polynomial that is 0 at more sizes than its degree is 0 everywhere.
        if len(sizes) <= expression.orders(symbol)[0]:
            return all(is_zero(expression.fixed(symbol, size), domain) for size in sizes)
    return False


#: The maximum number of combinations of sizes that `first_above` tries: the sizes of all symbols but one.
_MOST_COMBINATIONS = 4096


def first_above(expression: Expression, limit: Expression, domain: Domain) -> dict[str, int] | None:
    """Return a point at which ``expression`` is more than ``limit``; None if it is proven that there is none.

    With one symbol, the point has the smallest size.

    Raises:
        ValueError: the domain is too large, and no proof is known.
    """
    return first_all_positive([expression - limit], domain)


def first_all_positive(expressions: Sequence[Expression], domain: Domain) -> dict[str, int] | None:
    """Return a point at which every one of the expressions is positive; None if it is proven that there is none.

    With one symbol, the point has the smallest size.

    Raises:
        ValueError: the domain is too large, and no proof is known.
    """
    *others, longest = _by_length(domain)
    if any(_has_no_positive_coefficient(expression, domain) for expression in expressions):
        return None
    if _is_too_large(domain):
        for corner in map(domain.named, domain.corners()):
            if all(expression.at(corner) > 0 for expression in expressions):
                return corner
        raise ValueError("the domain is too large")
    for combination in product(*(domain.sizes(symbol) for symbol in others)):
        fixed = dict(zip(others, combination, strict=True))
        found = _first_all_positive([_fixed(expression, fixed) for expression in expressions], longest, domain)
        if found is not None:
            point = {**fixed, longest: found}
            return {symbol: point[symbol] for symbol in domain.symbols}
    return None


def _fixed(expression: Expression, sizes: Mapping[str, int]) -> Expression:
    for symbol, size in sizes.items():
        expression = expression.fixed(symbol, size)
    return expression


def _first_all_positive(expressions: Sequence[Expression], symbol: str, domain: Domain) -> int | None:
    if symbol in domain.powers_of_two:
        sizes = domain.sizes(symbol)
        return next((size for size in sizes if all(one.at({symbol: size}) > 0 for one in expressions)), None)
    parts = [domain[symbol]]
    for expression in expressions:
        parts = [found for part in parts for found in positive_sizes(expression, symbol, part)]
    return min((part[0] for part in parts), default=None)


def is_provable(expression: Expression, limit: Expression, domain: Domain) -> bool:
    """Return whether `first_above` can look at the whole domain, and not only at its corners."""
    return not _is_too_large(domain) or _has_no_positive_coefficient(expression - limit, domain)


def _by_length(domain: Domain) -> list[str]:
    return sorted(domain.symbols, key=lambda symbol: len(domain.sizes(symbol)))


def _is_too_large(domain: Domain) -> bool:
    return prod(len(domain.sizes(symbol)) for symbol in _by_length(domain)[:-1]) > _MOST_COMBINATIONS


def _has_no_positive_coefficient(rest: Expression, domain: Domain) -> bool:
    """Return whether the expression has no positive coefficient in the distances from the smallest sizes.

    Then it is nowhere positive.
    """
    if any(atom.kind != "symbol" for atom in rest.atoms()):
        return False
    for symbol, sizes in domain.ranges:
        rest = rest.substitute(Atom(symbol), symbol_expression(symbol) + constant(sizes.start))
    return all(coefficient <= 0 for coefficient in rest.terms.values())
