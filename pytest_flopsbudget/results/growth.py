"""Check limits on growth, formulas, and limits for every size of a range, with the law of a measurement."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import msgspec

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.identifiers import matches_pattern
from pytest_flopsbudget.laws.algebra.comparing import compare_law, modules_with
from pytest_flopsbudget.laws.algebra.formula import Formula
from pytest_flopsbudget.laws.algebra.orders import Order
from pytest_flopsbudget.laws.algebra.terms import constant
from pytest_flopsbudget.laws.algebra.whole_numbers import first_above, first_positive, is_provable
from pytest_flopsbudget.quantities.metrics import METRICS
from pytest_flopsbudget.results.limits import EffectiveLimits, in_measurement

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from pytest_flopsbudget.config.settings import Budget
    from pytest_flopsbudget.laws.algebra.domains import Domain, Point
    from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw, Piece
    from pytest_flopsbudget.laws.algebra.terms import Expression
    from pytest_flopsbudget.results.data import ComplexityData
    from pytest_flopsbudget.results.limits import Limit


class Laws(Protocol):
    """The laws of a measurement: what `pytest_flopsbudget.law` returns."""

    @property
    def modules(self) -> Mapping[str, Mapping[str, MetricLaw]]:
        """Path → metric key → law. The path of the model itself is ""."""

    @property
    def domain(self) -> Domain:
        """The sizes for which the laws hold."""

    @property
    def counted(self) -> Mapping[Point, ComplexityData]:
        """Point → the measurement at this point."""

    @property
    def evidence(self) -> str:
        """One sentence on what the laws rest on."""


class GrowthViolation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A limit on the law of a metric that is broken or cannot be checked. Laws are texts like "4*S^2 + 8*S"."""

    #: "order": the metric grows faster than allowed. "limit": a size of the range is over a limit. "formula": the law
    #: is not the formula. "unknown": the limit cannot be checked.
    kind: Literal["order", "limit", "formula", "unknown"]
    metric: str
    #: The place where the limit was written.
    source: str
    #: Path of the module, with "*" for the numbers of several modules with equal laws; null for the whole model.
    module: str | None = None
    #: The number of modules with equal laws.
    count: int = 1
    #: The size that the limit is about: "sequence".
    symbol: str = ""
    #: The order of growth that is allowed: "n log n".
    allowed: str = ""
    #: The measured order of growth: "n^2".
    measured: str = ""
    #: The measured law.
    law: str = ""
    #: The sizes for which the law is exact: "S = 128 ... 8,192".
    sizes: str = ""
    #: The terms of the law that grow too fast.
    leading: str = ""
    #: The other terms.
    rest: str = ""
    #: From this size on, the terms in ``leading`` are more than those in ``rest``; null if no such size was found.
    overtakes: int | None = None
    #: A point at which the limit is broken: "S = 1,024".
    point: str = ""
    #: The limit at this point, in the metric's unit; or the formula as text.
    limit: str = ""
    #: The modules that make the terms, or the lines that explain the difference to a formula.
    details: tuple[str, ...] = ()
    #: Why the limit cannot be checked.
    reason: str = ""


class _Check(msgspec.Struct, frozen=True):
    """The limits on laws that apply to one measurement. Closer budgets have replaced others."""

    #: (pattern of module paths or "" for the model, metric, symbol) → allowed order, source.
    orders: dict[tuple[str, str, str], tuple[Order, str]]
    #: Metric → formula, source.
    formulas: dict[str, tuple[Formula, str]]


def check_growth(  # noqa: PLR0913 -- what laws are judged by
    laws: Laws | None,
    budgets: Sequence[Budget],
    limits: EffectiveLimits,
    name: str,
    *,
    everywhere: str | None = None,
    measured_elsewhere: bool = False,
) -> tuple[GrowthViolation, ...]:
    """Return the limits on the laws of a measurement that are broken or cannot be checked.

    Args:
        laws: the laws; None if the measurement is of one size.
        budgets: the budgets that apply to the test.
        limits: the limits on amounts that apply to the measurement. They have to hold for every size.
        name: the name of the measurement.
        everywhere: the source of the limits that the pyproject sets for all tests. They are ignored without a law.
        measured_elsewhere: whether another measurement of the test has laws. If so, this one needs none.
    """
    check = _merge(budgets, name)
    if laws is None:
        return () if measured_elsewhere else tuple(_unmeasured(check, everywhere))
    return (
        *_check_orders(laws, check),
        *_check_formulas(laws, check),
        *_check_limits(laws, limits),
    )


def unproven_limits(laws: Laws, limits: EffectiveLimits) -> list[str]:
    """Return notes on the limits that were not checked at every size.

    Without a law, only the counted sizes are known. With a law of several large ranges, there may be no proof for the
    sizes between the corners.
    """
    notes = []
    sizes = laws.domain.named(laws.domain.highest)
    highest = ", ".join(f"{symbol} = {size:,}" for symbol, size in sizes.items())
    for one in _limited(laws, limits):
        what = f"the limit on {one.metric}{f' of {one.path}' if one.path else ''}"
        if not one.law.found:
            # Limits of modules are checked in the measurement of the largest sizes too.
            notes.append(f"{what} was checked at {highest} only: {one.law.reason}")
        elif not all(is_provable(piece.expression, constant(one.maximum), piece.domain) for piece in one.law.pieces):
            notes.append(
                f"{what} was checked only at the corners of the ranges, because the ranges are too large for a proof"
            )
    for metric, limit in limits.limits.items():
        if limit.minimum is not None or limit.share_of is not None:
            notes.append(f"the limit on {metric} was checked at {highest} only: every size needs a maximum in numbers")
    return notes


def _merge(budgets: Sequence[Budget], name: str) -> _Check:
    orders: dict[tuple[str, str, str], tuple[Order, str]] = {}
    formulas: dict[str, tuple[Formula, str]] = {}
    for budget in in_measurement(budgets, name):
        for pattern, growth in (("", budget.growth), *budget.module_growth.items()):
            for metric, symbols in growth.items():
                for symbol, order in symbols.items():
                    orders[pattern, metric, symbol] = order, budget.source
        for metric in (*budget.limits, *budget.formulas):
            formulas.pop(metric, None)
        formulas |= {metric: (formula, budget.source) for metric, formula in budget.formulas.items()}
    return _Check(orders, formulas)


def _unmeasured(check: _Check, everywhere: str | None) -> Iterator[GrowthViolation]:
    reason = "no law was measured: call flops_budget.over(model, make_inputs, sequence=range(...))"
    for (pattern, metric, symbol), (order, source) in check.orders.items():
        if source != everywhere:
            yield GrowthViolation(
                kind="unknown",
                metric=metric,
                module=pattern or None,
                symbol=symbol,
                allowed=str(order),
                source=source,
                reason=reason,
            )
    for metric, (formula, source) in check.formulas.items():
        if source != everywhere:
            names = ", ".join(formula.names())
            yield GrowthViolation(
                kind="unknown",
                metric=metric,
                limit=formula.text,
                source=source,
                reason=f"{names} have no value: give them in where, or measure a law with flops_budget.over(...)",
            )


def _check_orders(laws: Laws, check: _Check) -> Iterator[GrowthViolation]:
    for (pattern, metric, symbol), (allowed, source) in check.orders.items():
        paths = [path for path in laws.modules if (matches_pattern(path, pattern) if pattern else not path)]
        paths = [path for path in paths if path or not pattern]
        common = GrowthViolation(
            kind="order", metric=metric, module=pattern or None, symbol=symbol, allowed=str(allowed), source=source
        )
        if not paths:
            near = ", ".join(list(filter(None, laws.modules))[:3])
            yield _unknown(common, f"no module matches {pattern!r}; there are {near or 'none'}")
        found: dict[tuple[str, str], GrowthViolation] = {}
        for path in paths:
            violation = _check_order(laws, path, common, allowed)
            if violation is None:
                continue
            key = re.sub(r"\d+", "*", path), violation.law + violation.reason
            known = found.get(key)
            if known is not None:
                found[key] = msgspec.structs.replace(known, module=key[0], count=known.count + 1)
            else:
                found[key] = msgspec.structs.replace(violation, module=path or None)
        yield from found.values()


def _unknown(violation: GrowthViolation, reason: str) -> GrowthViolation:
    return msgspec.structs.replace(violation, kind="unknown", reason=reason)


def _check_order(laws: Laws, path: str, common: GrowthViolation, allowed: Order) -> GrowthViolation | None:
    law = laws.modules[path].get(common.metric)
    if law is None:
        return _unknown(common, f"{common.metric} has no law")
    if common.symbol not in (*law.domain.symbols, *law.letters.values()):
        return _unknown(common, f"the law has no size {common.symbol!r}; there are {', '.join(law.domain.symbols)}")
    if not law.found:
        return _unknown(common, law.reason)
    measured = law.growth(common.symbol)
    if measured <= allowed:
        return None
    symbol = next(name for name in law.domain.symbols if common.symbol in (name, law.letters.get(name)))
    piece = max(law.last_pieces(symbol), key=lambda piece: piece.expression.orders(symbol))
    too_fast, rest = _split(piece.expression, symbol, allowed)
    inside = {name: part for name, part in laws.modules.items() if not path or name == path or _is_inside(name, path)}
    return msgspec.structs.replace(
        common,
        measured=str(measured),
        law=law.text(signs=False),
        sizes=_sizes(law),
        leading=too_fast.text(law.letters, signs=False),
        rest=rest.text(law.letters, signs=False) if rest else "",
        overtakes=first_overtaking(too_fast - rest, piece, symbol) if rest else None,
        details=tuple(
            f"{name}: {terms}"
            for name, terms in modules_with(law, too_fast, piece.domain, inside, signs=False)
            if name != path
        ),
    )


def _is_inside(name: str, path: str) -> bool:
    return name.startswith(f"{path}.")


def _split(expression: Expression, symbol: str, allowed: Order) -> tuple[Expression, Expression]:
    """Return the terms that grow faster with the symbol than allowed, and the other terms that depend on it."""
    too_fast, rest = {}, {}
    for monomial, coefficient in expression.terms.items():
        part = type(expression)({monomial: coefficient})
        if Order(*part.orders(symbol)) > allowed:
            too_fast[monomial] = coefficient
        else:
            rest[monomial] = coefficient
    return type(expression)(too_fast), type(expression)(rest)


#: The size at which some terms overtake others is searched in a range that is this many times as long.
_BEYOND = 1000


def first_overtaking(difference: Expression, piece: Piece, symbol: str) -> int | None:
    """Return the smallest size from which on ``difference`` is positive, also beyond the range; None if none is found.

    Args:
        difference: some terms of the piece, less others.
        piece: the piece. Its other symbols have their largest sizes.
        symbol: the symbol.
    """
    for name, sizes in piece.domain.ranges:
        if name != symbol:
            difference = difference.fixed(name, sizes[-1])
    sizes = piece.domain[symbol]
    if symbol in piece.domain.powers_of_two:
        return next((size for size in piece.domain.sizes(symbol) if difference.at({symbol: size}) > 0), None)
    return first_positive(difference, symbol, range(sizes.start, sizes.start + (len(sizes) * _BEYOND), sizes.step))


def _check_formulas(laws: Laws, check: _Check) -> Iterator[GrowthViolation]:
    for metric, (formula, source) in check.formulas.items():
        common = GrowthViolation(kind="formula", metric=metric, limit=formula.text.strip(), source=source)
        law = laws.modules[""].get(metric)
        try:
            comparison = compare_law(law, formula, modules=laws.modules) if law is not None else None
        except UsageError as error:
            yield _unknown(common, str(error))
            continue
        if comparison is None:
            yield _unknown(common, f"{metric} has no law")
        elif not comparison:
            yield msgspec.structs.replace(common, limit=comparison.formula, details=comparison.lines)


def _maximum(metric: str, limit: Limit) -> int | None:
    usual = limit.share_of is None and metric in METRICS and not METRICS[metric].over
    return limit.maximum if usual and isinstance(limit.maximum, int) else None


class _Limited(NamedTuple):
    """A limit on the law of a metric."""

    metric: str
    #: The path of the module; "" is the whole model.
    path: str
    maximum: int
    source: str
    law: MetricLaw


def _limited(laws: Laws, limits: EffectiveLimits) -> Iterator[_Limited]:
    groups: list[tuple[Collection[str], Mapping[str, Limit]]] = [([""], limits.limits)]
    for pattern, of_modules in limits.modules.items():
        groups.append(([path for path in laws.modules if path and matches_pattern(path, pattern)], of_modules))
    for paths, group in groups:
        for metric, limit in group.items():
            maximum = _maximum(metric, limit)
            for path in paths:
                law = laws.modules[path].get(metric)
                if law is not None and maximum is not None:
                    yield _Limited(metric, path, maximum, limit.source, law)


def _check_limits(laws: Laws, limits: EffectiveLimits) -> Iterator[GrowthViolation]:
    """Yield the limits that a size of the range breaks, with the smallest such size."""
    for one in _limited(laws, limits):
        law = one.law
        point = _first_over(law, one.maximum)
        if point is not None:
            yield GrowthViolation(
                kind="limit",
                metric=one.metric,
                module=one.path or None,
                source=one.source,
                law=law.text(signs=False),
                sizes=_sizes(law),
                point=", ".join(f"{law.letters.get(name, name)} = {size:,}" for name, size in point.items()),
                limit=f"{one.maximum:,}",
                details=(f"{law.at(**point):,}",),
            )


def _sizes(law: MetricLaw) -> str:
    """Return the ranges of the law, with the name of each size that the law shortens: "S (sequence) = 1 ... 64"."""
    names = {name: letter if letter == name else f"{letter} ({name})" for name, letter in law.letters.items()}
    return law.domain.text(names, signs=False)


def _first_over(law: MetricLaw, maximum: int) -> dict[str, int] | None:
    points = []
    for piece in law.pieces:
        try:
            point = first_above(piece.expression, constant(maximum), piece.domain)
        except ValueError:
            continue  # `unproven_limits` says this
        if point is not None:
            points.append(point)
    return min(points, key=lambda point: tuple(point.values()), default=None)
