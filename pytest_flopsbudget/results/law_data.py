"""Laws as plain data: what measurements, baselines and reports hold, and `MetricLaw` made of it again."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import msgspec

from pytest_flopsbudget.laws.algebra.domains import Domain, short_names
from pytest_flopsbudget.laws.algebra.formula import parse_term
from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw, Piece
from pytest_flopsbudget.laws.algebra.terms import Expression

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


#: A size. Ranges of larger numbers have no length in Python, and no model has such sizes.
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Value = Annotated[int, msgspec.Meta(ge=0)]
#: A whole number, or a fraction such as "1/2".
Coefficient = int | Annotated[str, msgspec.Meta(pattern=r"^-?[1-9][0-9]*/[1-9][0-9]*$")]


class Sizes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The sizes of one symbol for which a law holds."""

    #: The smallest size.
    first: _Size
    #: The largest size.
    last: _Size
    #: The distance between two sizes.
    step: Annotated[int, msgspec.Meta(ge=1, le=2**53)] = 1
    #: Whether only those of these sizes belong to the range that are powers of two.
    powers_of_two: bool = False


class LawPiece(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An expression, and the sizes for which it is the value of a metric."""

    #: Symbol → sizes; empty if the piece holds for all sizes of the measurement.
    sizes: dict[str, Sizes] = {}
    #: Product of sizes ("batch*sequence^2", "ceil(n/16)", "1") → its coefficient.
    terms: dict[str, Coefficient]


class StoredLaw(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How one metric grows, exactly."""

    #: The parts of the law. No two parts hold for the same size. Empty if there is no law.
    pieces: tuple[LawPiece, ...] = ()
    #: Why there is no law; empty if there is one.
    reason: str = ""
    #: Whether the baseline holds the metric. Baselines have only such laws.
    held: bool = True
    #: The values at the sizes that were counted, in the order of `MeasuredLaws.counted`; null where the metric has no
    #: whole value. Empty in baselines, and if the metric does not change with any size.
    counts: tuple[_Value | None, ...] = ()


class MeasuredLaws(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the metrics of a model grow with its sizes."""

    #: Symbol → the sizes that the laws were asked for.
    sizes: dict[str, Sizes]
    #: Metric key → law of the model. Files call it "totals", and write each law on a line.
    metrics: dict[str, StoredLaw] = msgspec.field(name="totals", default_factory=dict)
    #: Folded path of modules, "layers.{0-31}.mlp" → metric key → the law of each of these modules without the modules
    #: below it. Only held metrics that grow with a size are listed. The path of the model itself is "".
    modules: dict[str, dict[str, StoredLaw]] = {}
    #: The counted sizes, in the order of the symbols. Empty in baselines.
    counted: tuple[tuple[_Size, ...], ...] = ()
    #: One sentence on what the laws rest on; empty in baselines.
    evidence: str = ""

    @property
    def domain(self) -> Domain:
        """The sizes that the laws were asked for."""
        return to_domain(self.sizes)

    def law(self, metric: str) -> MetricLaw | None:
        """Return the law of a metric of the model; None if the metric is not listed."""
        stored = self.metrics.get(metric)
        return None if stored is None else to_law(metric, stored, self.sizes)

    def module_laws(self, metric: str) -> dict[str, MetricLaw]:
        """Return folded path → law of each of these modules without the modules below it."""
        return {path: to_law(metric, laws[metric], self.sizes) for path, laws in self.modules.items() if metric in laws}

    def held(self) -> MeasuredLaws:
        """Return the laws that a baseline stores: those of held metrics, without what was counted."""
        return MeasuredLaws(
            sizes=self.sizes,
            metrics={
                metric: msgspec.structs.replace(law, counts=())
                for metric, law in self.metrics.items()
                if law.held and law.pieces
            },
            modules=self.modules,
        )


def to_domain(sizes: Mapping[str, Sizes]) -> Domain:
    """Return the domain of all sizes of a law or of a piece."""
    return Domain(
        tuple((symbol, range(one.first, one.last + 1, one.step)) for symbol, one in sizes.items()),
        frozenset(symbol for symbol, one in sizes.items() if one.powers_of_two),
    )


def to_law(metric: str, stored: StoredLaw, sizes: Mapping[str, Sizes]) -> MetricLaw:
    """Return a law that was stored.

    Args:
        metric: the metric key.
        stored: the law.
        sizes: symbol → the sizes that the law was asked for.

    Raises:
        ValueError: a term is none of these symbols; see `check_piece`.
    """
    pieces = tuple(Piece(to_domain(piece.sizes or sizes), _expression(piece, sizes)) for piece in stored.pieces)
    return MetricLaw(metric, to_domain(sizes), pieces, stored.reason, short_names(list(sizes)))


def _expression(piece: LawPiece, symbols: Iterable[str]) -> Expression:
    return Expression({parse_term(text, symbols): Fraction(value) for text, value in piece.terms.items()})


def check_term(text: str, coefficient: int | str, symbols: Iterable[str]) -> str:
    """Return what is wrong with one term of a stored law; "" if it is right."""
    try:
        parse_term(text, symbols)
    except ValueError as error:
        return str(error)
    number = Fraction(coefficient)
    if not number:
        return "a coefficient of 0; leave the term out"
    return f"write {number}" if str(number) != str(coefficient) else ""


def check_sizes(sizes: Mapping[str, Sizes], symbols: Collection[str], within: Mapping[str, Sizes]) -> str:
    """Return what is wrong with the sizes of a law or a piece; "" if they are right.

    Args:
        sizes: symbol → sizes.
        symbols: the symbols of the law.
        within: symbol → the sizes that the law was asked for.
    """
    if list(sizes) != list(symbols):
        return f"sizes of {', '.join(sizes) or 'nothing'}; the law is of {', '.join(symbols) or 'nothing'}"
    for symbol, one in sizes.items():
        if one.last < one.first or (one.last - one.first) % one.step:
            return f"{symbol}: no range from {one.first} to {one.last} in steps of {one.step}"
        if not to_domain({symbol: one}).sizes(symbol):
            return f"{symbol}: no power of two from {one.first} to {one.last}"
        if not within[symbol].first <= one.first <= one.last <= within[symbol].last:
            return f"{symbol}: {one.first} to {one.last} is not within {within[symbol].first} to {within[symbol].last}"
    return ""
