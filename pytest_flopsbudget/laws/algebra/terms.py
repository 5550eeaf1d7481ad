"""Expressions: sums of products of symbols, rounded quotients and logarithms, with exact rational coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = Literal["symbol", "quotient", "log", "ceil_log", "floor_log"]


class NotExactError(ValueError):
    """An expression has no exact value at a point: log2 of a size that is no power of two."""


@dataclass(frozen=True, slots=True, order=True)
class Atom:
    """A factor of a term: a symbol, or a whole number that follows from one symbol."""

    symbol: str
    #: "symbol": the symbol's value x. "quotient": (x + shift) / divisor, rounded down. "log": log2 x, which exists for
    #: powers of two only. "ceil_log", "floor_log": log2 x, rounded up or down.
    kind: Kind = "symbol"
    divisor: int = 1
    shift: int = 0

    def value(self, size: int) -> int:
        """Return the value for a size of the symbol.

        Raises:
            NotExactError: the value is no whole number.
        """
        match self.kind:
            case "symbol":
                return size
            case "quotient":
                return (size + self.shift) // self.divisor
            case _:
                if size < 1:
                    raise NotExactError(f"log2({size}) has no value")
                if self.kind == "log" and size & (size - 1):
                    raise NotExactError(f"log2({size}) is not a whole number")
                return (size - 1).bit_length() if self.kind == "ceil_log" else size.bit_length() - 1

    @property
    def is_log(self) -> bool:
        """Whether the factor is a logarithm."""
        return self.kind in {"log", "ceil_log", "floor_log"}

    def text(self, letter: str, *, signs: bool) -> str:
        """Return the factor as text, with ``letter`` for the symbol."""
        match self.kind:
            case "symbol":
                return letter
            case "log":
                return f"log\u2082{letter}" if signs else f"log2({letter})"
            case "ceil_log":
                return f"\u2308log\u2082{letter}\u2309" if signs else f"ceil(log2({letter}))"
            case "floor_log":
                return f"\u230alog\u2082{letter}\u230b" if signs else f"floor(log2({letter}))"
            case "quotient":
                up = self.shift == self.divisor - 1
                inner = letter if up or not self.shift else f"({letter} + {self.shift})"
                inner = f"{inner}/{self.divisor}"
                if signs:
                    return f"\u2308{inner}\u2309" if up else f"\u230a{inner}\u230b"
                return f"ceil({inner})" if up else f"floor({inner})"


#: Factors with their exponents, sorted.
Monomial: TypeAlias = tuple[tuple[Atom, int], ...]

_SUPERSCRIPTS = str.maketrans("0123456789", "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")


class Expression:
    """A sum of terms. Each term is an exact coefficient times a product of factors. Immutable.

    Args:
        terms: product of factors → coefficient. Terms with the coefficient 0 are dropped.
    """

    __slots__ = ("_hash", "_terms", "_whole")

    def __init__(self, terms: Mapping[Monomial, Fraction | int] | None = None) -> None:
        self._terms: dict[Monomial, Fraction] = {
            monomial: Fraction(coefficient) for monomial, coefficient in (terms or {}).items() if coefficient
        }
        self._hash: int | None = None
        #: The common denominator of the coefficients, and product of factors → coefficient times this denominator.
        self._whole: tuple[int, list[tuple[Monomial, int]]] | None = None

    @property
    def terms(self) -> Mapping[Monomial, Fraction]:
        """Product of factors → coefficient."""
        return self._terms

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self._terms == other._terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._terms.items()))
        return self._hash

    def __bool__(self) -> bool:
        return bool(self._terms)

    def __add__(self, other: Expression) -> Expression:
        terms = dict(self._terms)
        for monomial, coefficient in other._terms.items():
            terms[monomial] = terms.get(monomial, Fraction(0)) + coefficient
        return Expression(terms)

    def __sub__(self, other: Expression) -> Expression:
        return self + other.scaled(-1)

    def __mul__(self, other: Expression) -> Expression:
        terms: dict[Monomial, Fraction] = {}
        for one, a in self._terms.items():
            for two, b in other._terms.items():
                product = _multiply(one, two)
                terms[product] = terms.get(product, Fraction(0)) + a * b
        return Expression(terms)

    def __pow__(self, exponent: int) -> Expression:
        result = constant(1)
        for _ in range(exponent):
            result *= self
        return result

    def scaled(self, factor: Fraction | int) -> Expression:
        """Return the expression times a number."""
        return Expression({monomial: coefficient * factor for monomial, coefficient in self._terms.items()})

    def at(self, sizes: Mapping[str, int]) -> Fraction:
        """Return the value for a size of each symbol.

        Raises:
            NotExactError: the expression has no exact value there.
        """
        if self._whole is None:
            denominator = lcm(*(coefficient.denominator for coefficient in self._terms.values()))
            scaled = [(monomial, int(coefficient * denominator)) for monomial, coefficient in self._terms.items()]
            self._whole = denominator, scaled
        denominator, terms = self._whole
        total = 0
        values: dict[Atom, int] = {}
        for monomial, coefficient in terms:
            product = 1
            for atom, exponent in monomial:
                value = values.get(atom)
                if value is None:
                    value = values[atom] = atom.value(sizes[atom.symbol])
                product *= value**exponent
            total += coefficient * product
        return Fraction(total, denominator)

    def substitute(self, atom: Atom, replacement: Expression) -> Expression:
        """Return the expression with ``replacement`` in place of every ``atom``."""
        result = Expression()
        for monomial, coefficient in self._terms.items():
            rest = tuple(factor for factor in monomial if factor[0] != atom)
            exponent = sum(exponent for found, exponent in monomial if found == atom)
            result += Expression({rest: coefficient}) * replacement**exponent
        return result

    def fixed(self, symbol: str, size: int) -> Expression:
        """Return the expression for one size of a symbol.

        Raises:
            NotExactError: a logarithm is not exact for this size.
        """
        result = self
        for atom in sorted(self.atoms()):
            if atom.symbol == symbol:
                result = result.substitute(atom, constant(atom.value(size)))
        return result

    def atoms(self) -> set[Atom]:
        """Return all factors of the terms."""
        return {atom for monomial in self._terms for atom, _ in monomial}

    def symbols(self) -> set[str]:
        """Return the symbols that occur."""
        return {atom.symbol for atom in self.atoms()}

    def orders(self, symbol: str) -> tuple[int, int]:
        """Return (a, b) for the growth x^a (log x)^b of the expression, where x is the value of the symbol.

        Terms that cancel each other for large sizes do not count: n^2 - n * 64 * ceil(n/64) grows like n.
        """
        exact = self
        for atom in self.atoms():
            if atom.kind == "quotient" and atom.symbol == symbol:
                # A rounded quotient is the quotient and a rest that does not grow.
                rest = atom_expression(Atom(f"rest of {atom}"))
                exact = exact.substitute(atom, symbol_expression(symbol).scaled(Fraction(1, atom.divisor)) + rest)
        return max((_order(monomial, symbol) for monomial in exact.terms), default=(0, 0))

    def sorted_terms(self) -> Iterator[tuple[Monomial, Fraction]]:
        """Yield the terms. Those of the highest degree come first."""
        yield from sorted(self._terms.items(), key=lambda term: _place(term[0]))

    def text(self, letters: Mapping[str, str] | None = None, *, signs: bool = True) -> str:
        """Return the expression as text: "36,864·S² + 1,024·S", or "36,864*S^2 + 1,024*S" without ``signs``.

        Args:
            letters: symbol → its short name; a missing symbol is written in full.
            signs: whether to use signs beyond ASCII.
        """
        parts: list[str] = []
        for monomial, coefficient in self.sorted_terms():
            negative = coefficient < 0
            term = _term(monomial, abs(coefficient), letters or {}, signs=signs)
            if parts:
                parts += [" - " if negative else " + ", term]
            else:
                parts.append(f"-{term}" if negative else term)
        return "".join(parts) or "0"

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Expression {self.text(signs=False)}>"


def constant(value: Fraction | int) -> Expression:
    """Return the expression of a number."""
    return Expression({(): value})


def atom_expression(atom: Atom) -> Expression:
    """Return the expression that consists of one factor."""
    return Expression({((atom, 1),): 1})


def symbol_expression(symbol: str) -> Expression:
    """Return the expression that consists of one symbol."""
    return atom_expression(Atom(symbol))


def quotient(symbol: str, divisor: int, shift: int = 0) -> Expression:
    """Return the expression of (x + shift) / divisor, rounded down, where x is the value of ``symbol``."""
    whole, rest = divmod(shift, divisor)
    if divisor == 1:
        return symbol_expression(symbol) + constant(shift)
    return atom_expression(Atom(symbol, "quotient", divisor, rest)) + constant(whole)


def term_text(monomial: Monomial) -> str:
    """Return a product of factors as text, with the full names of its symbols: "batch*sequence^2"; "1" for none."""
    return _term(monomial, Fraction(1), {}, signs=False)


def _multiply(one: Monomial, two: Monomial) -> Monomial:
    if not one or not two:
        return one or two
    exponents = dict(one)
    for atom, exponent in two:
        exponents[atom] = exponents.get(atom, 0) + exponent
    return tuple(sorted(exponents.items()))


def _order(monomial: Monomial, symbol: str) -> tuple[int, int]:
    powers = sum(exponent for atom, exponent in monomial if atom.symbol == symbol and not atom.is_log)
    logs = sum(exponent for atom, exponent in monomial if atom.symbol == symbol and atom.is_log)
    return powers, logs


def _place(monomial: Monomial) -> tuple[object, ...]:
    degree = sum(exponent for atom, exponent in monomial if not atom.is_log)
    logs = sum(exponent for atom, exponent in monomial if atom.is_log)
    return -degree, -logs, -max((exponent for _, exponent in monomial), default=0), monomial


def _term(monomial: Monomial, coefficient: Fraction, letters: Mapping[str, str], *, signs: bool) -> str:
    number = f"{coefficient.numerator:,}"
    if coefficient.denominator != 1:
        number += f"/{coefficient.denominator:,}"
    factors = [number] if coefficient != 1 or not monomial else []
    # Factors of higher powers come last, as in "B·S²".
    for atom, exponent in sorted(monomial, key=lambda factor: (factor[0].is_log, factor[1], factor[0])):
        base = atom.text(letters.get(atom.symbol, atom.symbol), signs=signs)
        if exponent == 1:
            factors.append(base)
        elif signs:
            power = str(exponent).translate(_SUPERSCRIPTS)
            factors.append(f"({base}){power}" if atom.kind == "log" else f"{base}{power}")
        else:
            factors.append(f"{base}^{exponent}")
    return ("\u00b7" if signs else "*").join(factors)
