"""`MetricLaw`: how one metric grows with the sizes of a model, piece by piece, exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.laws.algebra.orders import Order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_flopsbudget.laws.algebra.domains import Domain
    from pytest_flopsbudget.laws.algebra.terms import Expression

#: If a law has more pieces, its text shows the first ones and the last one.
_SHOWN_PIECES = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """An expression, and the sizes for which it is the value of the metric."""

    domain: Domain
    expression: Expression


@dataclass(frozen=True, slots=True)
class MetricLaw:
    """The value of one metric for every size of a range, or the reason why no law was found."""

    metric: str
    #: The sizes that the law was asked for.
    domain: Domain
    #: The parts of the law. No two parts hold for the same size. Empty if there is no law.
    pieces: tuple[Piece, ...] = ()
    #: Why there is no law; empty if there is one.
    reason: str = ""
    #: Symbol → its short name in texts.
    letters: Mapping[str, str] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether there is a law."""
        return bool(self.pieces)

    @property
    def expression(self) -> Expression:
        """The expression, for a law of one piece.

        Raises:
            UsageError: there is no law, or it has several pieces.
        """
        self._check()
        if len(self.pieces) > 1:
            raise UsageError(f"{self.metric}: the law has {len(self.pieces)} pieces; take .pieces")
        return self.pieces[0].expression

    def at(self, **sizes: int) -> int:
        """Return the exact value for one size of each symbol. A symbol goes by its full or its short name.

        Raises:
            UsageError: there is no law, a symbol is missing or unknown, or the law does not hold for the size.
        """
        self._check()
        point = self._named(sizes)
        for piece in self.pieces:
            if piece.domain.contains(point):
                value = piece.expression.at(point)
                return value.numerator if value.denominator == 1 else int(value)
        asked = ", ".join(f"{self.letters.get(symbol, symbol)} = {size:,}" for symbol, size in point.items())
        raise UsageError(
            f"{self.metric}: no law is known at {asked}; it holds for {self.domain.text(self.letters, signs=False)}"
        )

    def degree(self, symbol: str) -> int:
        """Return the exponent of ``symbol`` in the term that grows most with it, for the largest sizes."""
        return self.growth(symbol).powers

    def order(self, symbol: str) -> str:
        """Return how the metric grows with ``symbol``, for the largest sizes: "1", "log n", "n", "n log n", "n^2"."""
        return str(self.growth(symbol))

    def growth(self, symbol: str) -> Order:
        """Return how the metric grows with ``symbol`` in the pieces that reach the largest sizes.

        Raises:
            UsageError: there is no law, or no such symbol.
        """
        self._check()
        name = self._symbol(symbol)
        return max(Order(*piece.expression.orders(name)) for piece in self.last_pieces(name))

    def last_pieces(self, symbol: str) -> list[Piece]:
        """Return the pieces that hold for the largest sizes of ``symbol``, one for each residue."""
        name = self._symbol(symbol)
        end = self.domain.sizes(name)[-1]
        # The sizes of a piece may have a larger step: those with equal remainders, or powers of two.
        return [
            piece
            for piece in self.pieces
            if piece.domain.powers_of_two or piece.domain[name][-1] + piece.domain[name].step > end
        ]

    def text(self, *, signs: bool = True) -> str:
        """Return the law as text: "36,864·S² + 1,024·S", or "36,864*S^2 + 1,024*S" without ``signs``."""
        if not self.pieces:
            return self.reason
        if len(self.pieces) == 1 and self.pieces[0].domain == self.domain:
            return self.pieces[0].expression.text(self.letters, signs=signs)
        shown = list(self.pieces)
        if len(shown) > _SHOWN_PIECES:
            shown = [*shown[: _SHOWN_PIECES - 1], shown[-1]]
        parts = [
            f"{piece.domain.text(self.letters, signs=signs)}: {piece.expression.text(self.letters, signs=signs)}"
            for piece in shown
        ]
        if len(shown) < len(self.pieces):
            parts.insert(-1, f"{len(self.pieces) - len(shown):,} more pieces")
        return "; ".join(parts)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<MetricLaw of {self.metric}: {self.text(signs=False)}>"

    def _check(self) -> None:
        if not self.pieces:
            raise UsageError(f"{self.metric}: {self.reason}")

    def _symbol(self, name: str) -> str:
        for symbol in self.domain.symbols:
            if name in (symbol, self.letters.get(symbol)):
                return symbol
        known = ", ".join(self.domain.symbols)
        raise UsageError(f"{self.metric}: no symbol {name!r} in this law; there are {known}")

    def _named(self, sizes: Mapping[str, int]) -> dict[str, int]:
        point = {self._symbol(name): size for name, size in sizes.items()}
        missing = [symbol for symbol in self.domain.symbols if symbol not in point]
        if missing:
            raise UsageError(f"{self.metric}: .at(...) needs a size of {', '.join(missing)}")
        return {symbol: point[symbol] for symbol in self.domain.symbols}


def merged(pieces: Iterable[Piece], symbols: Iterable[str]) -> tuple[Piece, ...]:
    """Return the pieces, with neighbours joined that one expression describes."""
    rest = list(pieces)
    for symbol in symbols if len(rest) > 1 else ():
        rest.sort(key=lambda piece: (piece.domain.lowest, piece.domain.highest))
        found: list[Piece] = []
        for piece in rest:
            joined = None
            for place, other in enumerate(found):
                joined = _joined(other, piece, symbol)
                if joined is not None:
                    found[place] = joined
                    break
            if joined is None:
                found.append(piece)
        rest = found
    return tuple(rest)


#: A piece of so few sizes may have a shorter expression than the piece next to it, with the same values.
_FEW_SIZES = 3


def _joined(piece: Piece, other: Piece, symbol: str) -> Piece | None:
    """Return one piece in place of two, if they are next to each other and one expression is right for both."""
    if piece.domain.powers_of_two or other.domain.powers_of_two:
        return None
    sizes, more = piece.domain[symbol], other.domain[symbol]
    step = more[0] - sizes[-1]
    if step <= 0 or any(part.step != step for part in (sizes, more) if len(part) > 1):
        return None
    if piece.domain.with_range(symbol, more) != other.domain:
        return None
    domain = piece.domain.with_range(symbol, range(sizes[0], more[-1] + 1, step))
    if _equal_on(other.expression, piece.expression, symbol, sizes):
        return Piece(domain, other.expression)
    return Piece(domain, piece.expression) if _equal_on(piece.expression, other.expression, symbol, more) else None


def _equal_on(one: Expression, two: Expression, symbol: str, sizes: range) -> bool:
    return one == two or (len(sizes) <= _FEW_SIZES and all(one.fixed(symbol, n) == two.fixed(symbol, n) for n in sizes))


def sum_of(laws: Iterable[tuple[MetricLaw, int]], metric: str, domain: Domain) -> MetricLaw | None:
    """Return the sum of laws, each times a factor; None if one of them is missing or their pieces differ."""
    total: dict[Domain, Expression] | None = None
    letters: Mapping[str, str] = {}
    for law, factor in laws:
        parts = {piece.domain: piece.expression.scaled(factor) for piece in law.pieces}
        letters = law.letters
        if not parts:
            return None
        if total is None:
            total = parts
        elif len(parts) == 1 and domain in parts:
            total = {part: expression + parts[domain] for part, expression in total.items()}
        elif len(total) == 1 and domain in total:
            total = {part: expression + total[domain] for part, expression in parts.items()}
        elif total.keys() == parts.keys():
            total = {part: expression + parts[part] for part, expression in total.items()}
        else:
            return None
    if total is None:
        return None
    pieces = merged((Piece(part, expression) for part, expression in total.items()), domain.symbols)
    return MetricLaw(metric, domain, pieces, letters=letters)
