"""Compare a measured law with a formula, for every size at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.laws.algebra.formula import Formula
from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw, sum_of
from pytest_flopsbudget.laws.algebra.whole_numbers import first_above, is_zero

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from fractions import Fraction

    from pytest_flopsbudget.laws.algebra.domains import Domain
    from pytest_flopsbudget.laws.algebra.metric_law import Piece
    from pytest_flopsbudget.laws.algebra.terms import Expression

#: If a formula is no expression, all sizes are tried, if there are at most this many.
_MOST_SIZES = 20_000
_MOST_MODULES = 4


@dataclass(frozen=True, slots=True)
class Comparison:
    """A measured law next to a formula."""

    metric: str
    #: The formula, as written.
    formula: str
    #: Whether the law is equal to the formula, or at most the formula if it begins with "<=", for every size.
    holds: bool
    #: The sizes that were tried one by one, if the formula cannot be compared as an expression; else 0.
    tried: int = 0
    #: A point at which the formula is wrong, with the counted value and the formula's value; None if there is none.
    counterexample: tuple[dict[str, int], int, Fraction] | None = None
    #: The lines of `text` after its first one.
    lines: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.holds

    def text(self) -> str:
        """Return why the formula does not hold, or that it holds."""
        if not self.holds:
            return "\n    ".join([f"{self.metric} is not {self.formula}", *self.lines])
        place = f"at all {self.tried:,} sizes that were tried" if self.tried else "for every size of the range"
        return f"{self.metric} is {self.formula} {place}"

    def __str__(self) -> str:
        return self.text()


def compare_law(
    law: MetricLaw,
    formula: str | Formula,
    where: Mapping[str, int] | None = None,
    modules: Mapping[str, Mapping[str, MetricLaw]] | None = None,
) -> Comparison:
    """Compare a law with a formula.

    Args:
        law: the law.
        formula: the formula. Its names are symbols of the law (full or short names), or keys of ``where``. If it begins
            with "<=", it is a maximum.
        where: name → value, for all other names.
        modules: path → metric → law of the modules below the model, to name the modules that make a difference.

    Raises:
        UsageError: there is no law, the formula has a mistake, or no proof is known for a maximum.
    """
    parsed = Formula(formula, where) if isinstance(formula, str) else formula
    names = {name: symbol for symbol in law.domain.symbols for name in (symbol, law.letters.get(symbol, symbol))}
    both = sorted(names.keys() & parsed.where.keys())
    if both:
        raise UsageError(f"formula {parsed.text}: where gives {both[0]} a value, and {both[0]} is a size of the law")
    parsed.check_names(names)
    if not law.found:
        raise UsageError(f"{law.metric}: {law.reason}, so it cannot be compared with {parsed.text}")
    written = _written(parsed)
    expression = parsed.expression(names)
    if expression is None:
        return _one_by_one(law, parsed, names, written)
    for piece in law.pieces:
        point = _wrong_point(piece, expression, parsed)
        if point is not None:
            lines = tuple(_lines(law, piece, expression, point, modules or {}))
            at = piece.expression.at(point).numerator, expression.at(point)
            return Comparison(law.metric, written, holds=False, counterexample=(point, *at), lines=lines)
    return Comparison(law.metric, written, holds=True)


def _written(formula: Formula) -> str:
    where = ", ".join(f"{name} = {value}" for name, value in formula.where.items())
    return f"{formula.text.strip()}, where {where}" if where else formula.text.strip()


def _wrong_point(piece: Piece, expression: Expression, formula: Formula) -> dict[str, int] | None:
    if formula.relation == "<=":
        try:
            return first_above(piece.expression, expression, piece.domain)
        except ValueError:
            place = piece.domain.text(signs=False)
            raise UsageError(f"formula {formula.text}: no proof is known for {place}; choose a smaller range") from None
    rest = piece.expression - expression
    if is_zero(rest, piece.domain):
        return None
    return next((point for point in _points(piece.domain) if rest.at(point)), piece.domain.named(piece.domain.highest))


def _points(domain: Domain) -> Iterator[dict[str, int]]:
    """Yield points of the domain, the smallest ones and the corners first."""
    near = product(*(domain.sizes(symbol)[:4] for symbol in domain.symbols))
    for point in (*near, *domain.corners(), *domain.spread_points(64)):
        yield domain.named(point)


def _one_by_one(law: MetricLaw, formula: Formula, names: Mapping[str, str], written: str) -> Comparison:
    every = len(law.domain) <= _MOST_SIZES
    tried = 0
    for piece in law.pieces:
        all_points = product(*(piece.domain.sizes(symbol) for symbol in piece.domain.symbols))
        for point in map(piece.domain.named, all_points) if every else _points(piece.domain):
            tried += 1
            counted = piece.expression.at(point).numerator
            value = formula.at({name: point[symbol] for name, symbol in names.items()})
            if counted > value or (counted < value and formula.relation == "=="):
                at = ", ".join(f"{law.letters.get(symbol, symbol)} = {size:,}" for symbol, size in point.items())
                return Comparison(
                    law.metric,
                    written,
                    holds=False,
                    counterexample=(point, counted, value),
                    lines=(f"counted: {law.text()}", f"at {at}: counted {counted:,}, formula {_number(value)}"),
                )
    return Comparison(law.metric, written, holds=True, tried=tried)


def _lines(
    law: MetricLaw,
    piece: Piece,
    expression: Expression,
    point: Mapping[str, int],
    modules: Mapping[str, Mapping[str, MetricLaw]],
) -> Iterator[str]:
    rest = piece.expression - expression
    if piece.domain != law.domain:
        yield f"for {piece.domain.text(law.letters)}:"
    yield f"counted:    {piece.expression.text(law.letters)}"
    yield f"formula:    {expression.text(law.letters)}"
    yield f"difference: {rest.text(law.letters)}"
    at = ", ".join(f"{law.letters.get(symbol, symbol)} = {size:,}" for symbol, size in point.items())
    yield f"at {at}: counted {piece.expression.at(point).numerator:,}, formula {_number(expression.at(point))}"
    for name, share in modules_with(law, rest, piece.domain, modules):
        yield f"in {name}: {share}"


def _number(value: Fraction) -> str:
    return f"{value.numerator:,}" if value.denominator == 1 else f"{value.numerator:,}/{value.denominator:,}"


def modules_with(
    law: MetricLaw,
    wanted: Expression,
    domain: Domain,
    modules: Mapping[str, Mapping[str, MetricLaw]],
    *,
    signs: bool = True,
) -> list[tuple[str, str]]:
    """Return (path, terms) for the modules that make the terms ``wanted``, without what their own submodules make.

    If the equal laws of some modules add up to ``wanted``, only these modules are returned. Numbers in the paths of
    modules with equal laws are written as "*".
    """
    groups: dict[tuple[str, Expression], list[str]] = {}
    for path, found in self_laws(modules, law.metric, law.domain).items():
        expression = next((piece.expression for piece in found.pieces if _covers(piece.domain, domain)), None)
        if expression is not None and expression:
            groups.setdefault((re.sub(r"\d+", "*", path), expression), []).append(path)
    exact, partial = [], []
    for (name, expression), paths in groups.items():
        shared = type(expression)({key: value for key, value in expression.terms.items() if key in wanted.terms})
        text = f"{shared.text(law.letters, signs=signs)}{' each' if len(paths) > 1 else ''}"
        entry = ((name if len(paths) > 1 else paths[0]) or "the model itself", text)
        total = expression.scaled(len(paths))
        if wanted in (total, total.scaled(-1)):
            exact.append(entry)
        elif shared:
            partial.append((sum(map(abs, shared.terms.values())) * len(paths), entry))
    partial.sort(key=lambda one: -one[0])
    return exact[:1] or [entry for _, entry in partial[:_MOST_MODULES]]


def _covers(outer: Domain, inner: Domain) -> bool:
    return outer.powers_of_two == inner.powers_of_two and all(
        sizes[0] in outer[symbol] and sizes[-1] in outer[symbol] for symbol, sizes in inner.ranges
    )


def self_laws(modules: Mapping[str, Mapping[str, MetricLaw]], metric: str, domain: Domain) -> dict[str, MetricLaw]:
    """Return path → law of a module without its submodules, for the modules where it is known."""
    children: dict[str, list[str]] = {path: [] for path in modules}
    for path in modules:
        if path:
            parent = path.rpartition(".")[0]
            while parent not in children and parent:
                parent = parent.rpartition(".")[0]
            children.setdefault(parent, []).append(path)
    found = {}
    for path, laws in modules.items():
        parts = [(laws[metric], 1), *((modules[child][metric], -1) for child in children[path])]
        own = sum_of(parts, metric, domain)
        if own is not None:
            found[path] = own
    return found
