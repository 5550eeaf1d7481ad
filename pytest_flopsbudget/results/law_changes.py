"""Compare the laws of a measurement with those of its baseline, exactly, for every size that both have."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import product
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pytest_flopsbudget.laws.algebra.terms import Expression, constant
from pytest_flopsbudget.laws.algebra.whole_numbers import first_all_positive
from pytest_flopsbudget.quantities.metrics import base_of, is_optional, sort_metrics
from pytest_flopsbudget.quantities.tolerance import Tolerance
from pytest_flopsbudget.results.data import Count
from pytest_flopsbudget.results.folding import unfold_path

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from pytest_flopsbudget.laws.algebra.domains import Domain
    from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw
    from pytest_flopsbudget.results.law_data import MeasuredLaws, StoredLaw

#: The maximum number of modules that a change names.
_MOST_MODULES = 4


class TermChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One term of a law before and after a change, as texts: "36,864*S^2"."""

    #: The product of sizes: "S^2"; "1" for the constant.
    term: str
    #: The old term; empty if the law had no such term.
    old: str = ""
    #: The new term; empty if the law has no such term.
    new: str = ""
    #: The old and the new coefficient as numbers or fractions: "36864", "1/2"; "0" for no such term.
    coefficients: tuple[str, str]


class ModuleLawChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Modules whose laws changed in the same way. Their laws are without the modules below them."""

    #: Path of the module, with "*" for the numbers of several modules; "" is the model itself.
    path: str
    #: The number of modules.
    count: Count = 1
    #: The law before; empty if the module was not there, or did not grow with any size.
    old: str = ""
    #: The law now; empty if the module is gone, or does not grow with any size.
    new: str = ""


class LawPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The values of a metric before and now for one size of each symbol."""

    #: "S = 128".
    sizes: str
    old: Count
    new: Count


class LawChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The law of a metric that differs from the baseline's. Laws are texts like "4*S^2 + 8*S"."""

    metric: str
    #: The law in the baseline.
    old: str
    #: The law now; empty if there is none any more.
    new: str
    #: The sizes for which the two laws were compared: "S (sequence) = 128 ... 8,192".
    sizes: str
    #: The terms of both laws, those that grow fastest first. Empty if a law has several pieces.
    terms: tuple[TermChange, ...] = ()
    #: Whether the tolerance allows the growth at every size.
    allowed: bool
    #: A point at which the metric grew, the smallest size if there is one symbol; null if it grew nowhere.
    grows: LawPoint | None = None
    #: A point at which the metric shrank; null if it shrank nowhere.
    shrinks: LawPoint | None = None
    #: A point at which the growth is beyond the tolerance, the smallest size if there is one symbol; null if there is
    #: none.
    beyond: LawPoint | None = None
    #: The values for the largest sizes that both laws have.
    largest: LawPoint
    #: The modules that make the change. The largest change is first.
    modules: tuple[ModuleLawChange, ...] = ()
    #: Why not every size was compared: the metric has no law any more, or one for fewer sizes, or the ranges are too
    #: large for a proof.
    reason: str = ""


class LawComparison(NamedTuple):
    """The laws of a measurement next to those of its baseline."""

    #: The laws that differ.
    changes: tuple[LawChange, ...] = ()
    #: The metrics that were judged by their laws.
    judged: frozenset[str] = frozenset()
    #: (old, new) sizes that the laws were asked for, if they differ: "sequence = 128 ... 8,192".
    range_changed: tuple[str, str] | None = None
    #: The laws in the baseline that this measurement lacks, in words: "the law of flops".
    vanished: tuple[str, ...] = ()


def compare_laws(
    old: MeasuredLaws | None, new: MeasuredLaws | None, tolerance: Mapping[str, Tolerance], held: Collection[str]
) -> LawComparison:
    """Compare the laws of the held metrics for all sizes that both sides have.

    Args:
        old: the laws in the baseline; None if it has none.
        new: the measured laws; None if the measurement is of one size.
        tolerance: metric key without names of devices → the growth that passes. Other metrics may not grow.
        held: the metrics that are judged, without names of devices.
    """
    if old is None or old == new:
        return LawComparison(judged=frozenset(old.metrics) if old is not None else frozenset())
    if new is None:
        return LawComparison(vanished=("the growth law",))
    range_changed = None
    if old.sizes != new.sizes:
        range_changed = old.domain.text(signs=False), new.domain.text(signs=False)
    if old.sizes.keys() != new.sizes.keys():
        # A size was renamed, added or removed. The laws have no point in common, so the values are compared.
        return LawComparison(range_changed=range_changed)
    both = [metric for metric in sort_metrics(old.metrics.keys() & new.metrics.keys()) if base_of(metric) in held]
    changes, judged, vanished = [], set(), []
    for metric in both:
        if old.metrics[metric].pieces == new.metrics[metric].pieces and range_changed is None:
            judged.add(metric)
            continue
        found = _Comparison(old, new, metric, tolerance.get(base_of(metric), Tolerance()))
        vanished += [f"{found.missing} {metric}"] if found.missing else []
        if found.pairs or found.counted:
            judged.add(metric)
            changes += [found.change()] if found.differs else []
    vanished += [f"the law of {key}" for key in old.metrics if key not in new.metrics and not is_optional(key)]
    return LawComparison(tuple(changes), frozenset(judged), range_changed, tuple(vanished))


class _Comparison:
    """The law of one metric before and now."""

    def __init__(self, old: MeasuredLaws, new: MeasuredLaws, metric: str, tolerance: Tolerance) -> None:
        self._before, self._now, self.metric, self._tolerance = old, new, metric, tolerance
        before, now = old.law(metric), new.law(metric)
        if before is None or now is None:
            raise KeyError(metric)
        self.old, self.new = before, now
        #: (common sizes, old expression, new expression) for the pieces that have sizes in common.
        self.pairs = [
            (common, one.expression, other.expression)
            for one, other in product(before.pieces, now.pieces)
            if (common := one.domain.common(other.domain)) is not None
        ]
        #: (point, old value, new value) for the counts that have a value by the old law, and none by the new one.
        self.counted = list(_counted(before, now, new, new.metrics[metric]))
        self._limits: list[str] = []

    @property
    def missing(self) -> str:
        """What the new law lacks, in words; "" if it holds wherever the old one does."""
        if self.old.found and not self.new.found:
            return "the law of"
        return "a part of the law of" if self.is_partial else ""

    @property
    def is_partial(self) -> bool:
        """Whether the new law lacks sizes that the old law has, although they are in the new range."""
        known = (one.domain.common(self.new.domain) for one in self.old.pieces)
        covered = sum(_points(domain) for domain, _, _ in self.pairs)
        return covered < sum(_points(domain) for domain in known if domain is not None)

    @property
    def differs(self) -> bool:
        """Whether the laws differ at a size that both have."""
        different = any(before != now for _, before, now in self.pairs)
        return (different and self._differs_somewhere()) or any(before != now for _, before, now in self.counted)

    def _differs_somewhere(self) -> bool:
        # Equal values may have several expressions: a piece of few sizes, or a rounded quotient.
        return self.first(_growth) is not None or self.first(_decline) is not None or bool(self._limits)

    def first(self, conditions: Callable[[Expression, Expression], Sequence[Expression]]) -> LawPoint | None:
        """Return the smallest common point at which all ``conditions`` on both expressions are positive."""
        points = []
        for domain, before, now in self.pairs:
            try:
                point = first_all_positive(conditions(before, now), domain)
            except ValueError:
                self._limits.append("the ranges are too large for a proof; only their corners were compared")
                continue
            if point is not None:
                points.append((tuple(point.values()), self._point(point, before.at(point), now.at(point))))
        for sizes, old, new in self.counted:
            if all(one.at({}) > 0 for one in conditions(constant(old), constant(new))):
                points.append((tuple(sizes.values()), self._point(sizes, old, new)))
        return min(points, key=lambda one: one[0])[1] if points else None

    def _point(self, point: Mapping[str, int], before: Fraction | int, now: Fraction | int) -> LawPoint:
        letters = self.old.letters
        sizes = ", ".join(f"{letters.get(symbol, symbol)} = {size:,}" for symbol, size in point.items())
        return LawPoint(sizes=sizes, old=int(before), new=int(now))

    def _beyond(self, before: Expression, now: Expression) -> Sequence[Expression]:
        """Return the conditions of a growth beyond the tolerance: it is more than both allowances."""
        grown = now - before
        both = [grown - before.scaled(self._tolerance.relative), grown - constant(self._tolerance.absolute)]
        return both[:1] if not self._tolerance.absolute else both

    def change(self) -> LawChange:
        """Return the difference of the two laws."""
        beyond = self.first(self._beyond)
        grows, shrinks = self.first(_growth), self.first(_decline)
        return LawChange(
            metric=self.metric,
            old=self.old.text(signs=False),
            new=self.new.text(signs=False) if self.new.found else "",
            sizes=self._sizes(),
            terms=tuple(_terms(self.old, self.new)),
            allowed=beyond is None,
            grows=grows,
            shrinks=shrinks,
            beyond=beyond,
            largest=self._largest(),
            modules=tuple(_modules(self._before, self._now, self.metric)[:_MOST_MODULES]),
            reason="; ".join(dict.fromkeys(self._reasons())),
        )

    def _reasons(self) -> Iterator[str]:
        if self.new.reason:
            yield self.new.reason
        elif self.is_partial:
            yield "the law holds for fewer sizes than before; of the others, those that were counted are compared"
        yield from self._limits

    def _sizes(self) -> str:
        letters = self.old.letters
        names = {name: letter if letter == name else f"{letter} ({name})" for name, letter in letters.items()}
        common = self.old.domain.common(self.new.domain)
        return (common or self.new.domain).text(names, signs=False)

    def _largest(self) -> LawPoint:
        corners = ((domain.named(domain.highest), before, now) for domain, before, now in self.pairs)
        found = [(point, int(before.at(point)), int(now.at(point))) for point, before, now in corners]
        point, old, new = max([*found, *self.counted], key=lambda one: tuple(one[0].values()))
        return self._point(point, old, new)


def _growth(before: Expression, now: Expression) -> Sequence[Expression]:
    return [now - before]


def _decline(before: Expression, now: Expression) -> Sequence[Expression]:
    return [before - now]


def _points(domain: Domain) -> int:
    return prod(len(domain.sizes(symbol)) for symbol in domain.symbols)


def _counted(
    old: MetricLaw, new: MetricLaw, laws: MeasuredLaws, law: StoredLaw
) -> Iterator[tuple[dict[str, int], int, int]]:
    for sizes, value in zip(laws.counted, law.counts, strict=False):
        point = dict(zip(laws.sizes, sizes, strict=True))
        piece = next((piece for piece in old.pieces if piece.domain.contains(point)), None)
        if any(one.domain.contains(point) for one in new.pieces):
            continue
        if piece is not None and value is not None:
            yield point, int(piece.expression.at(point)), value


def _terms(old: MetricLaw, new: MetricLaw) -> Iterator[TermChange]:
    """Yield the terms of two laws of one piece each. Those that grow fastest come first."""
    if len(old.pieces) != 1 or len(new.pieces) != 1:
        return
    before, now = old.pieces[0].expression.terms, new.pieces[0].expression.terms
    every = Expression(dict.fromkeys([*before, *now], 1))
    for monomial, _ in every.sorted_terms():
        texts = [
            Expression({monomial: side[monomial]}).text(old.letters, signs=False) if monomial in side else ""
            for side in (before, now)
        ]
        yield TermChange(
            term=Expression({monomial: 1}).text(old.letters, signs=False),
            old=texts[0],
            new=texts[1],
            coefficients=(str(before.get(monomial, 0)), str(now.get(monomial, 0))),
        )


def _modules(old: MeasuredLaws, new: MeasuredLaws, metric: str) -> list[ModuleLawChange]:
    before, now = (_unfolded(side, metric) for side in (old, new))
    groups: dict[tuple[str, str, str], list[str]] = {}
    weights: dict[tuple[str, str, str], Fraction] = {}
    for path in dict.fromkeys([*now, *before]):
        first, second = before.get(path), now.get(path)
        key = re.sub(r"\d+", "*", path), _text(first), _text(second)
        if key[1] == key[2]:
            continue
        groups.setdefault(key, []).append(path)
        weights[key] = weights.get(key, Fraction(0)) + abs(_at_largest(second) - _at_largest(first))
    return [
        ModuleLawChange(path=_common_path(groups[key]), count=len(groups[key]), old=key[1], new=key[2])
        for key in sorted(groups, key=lambda key: -weights[key])
    ]


def _text(law: MetricLaw | None) -> str:
    return "" if law is None else law.text(signs=False)


def _common_path(paths: Sequence[str]) -> str:
    """Return paths that differ in numbers only as one path, with "*" for the numbers that differ."""
    parts = [re.split(r"(\d+)", path) for path in paths]
    return "".join(same[0] if len(set(same)) == 1 else "*" for same in zip(*parts, strict=True))


def _unfolded(laws: MeasuredLaws, metric: str) -> dict[str, MetricLaw]:
    return {path: law for folded, law in laws.module_laws(metric).items() for path in unfold_path(folded)}


def _at_largest(law: MetricLaw | None) -> Fraction:
    """Return the value for the largest sizes of the last piece; 0 if there is no law."""
    if law is None or not law.pieces:
        return Fraction(0)
    piece = max(law.pieces, key=lambda piece: piece.domain.highest)
    return piece.expression.at(piece.domain.named(piece.domain.highest))
