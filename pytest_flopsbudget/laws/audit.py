"""`audit_law`: hold somebody's formula, a Python function of sizes, to the count, for every size of a range."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.laws.algebra.formula import Formula
from pytest_flopsbudget.laws.algebra.terms import Expression, constant
from pytest_flopsbudget.laws.algebra.whole_numbers import is_zero
from pytest_flopsbudget.laws.explaining import explain
from pytest_flopsbudget.laws.functions import SizeFunction, constants_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw
    from pytest_flopsbudget.laws.algebra.terms import Monomial
    from pytest_flopsbudget.laws.explaining import Finding

#: Products of a forward pass, and of a forward and a backward pass, for each parameter and token.
_FORWARD, _TRAINING = 2, 6
_SPREAD = 16


@dataclass(frozen=True, slots=True)
class Audit:
    """A formula held to the count."""

    #: The name of the function.
    function: str
    metric: str
    #: Whether the formula is the count, for every size.
    holds: bool
    #: The sizes that were compared, as text.
    sizes: str
    #: The mistakes of the formula; empty if it holds, or if no module explains the difference.
    findings: tuple[Finding, ...] = ()
    #: The count, the formula and the count less the formula, as texts; empty if the formula has no exact law.
    counted: str = ""
    formula: str = ""
    difference: str = ""
    #: Sizes at which the formula is wrong, with the counted value and that of the formula; None if there is none.
    counterexample: tuple[dict[str, int], Fraction, Fraction] | None = None
    #: The number of sizes that were tried one by one, if the formula has no exact law; else 0.
    tried: int = 0

    def __bool__(self) -> bool:
        return self.holds

    def text(self) -> str:
        """Return the answer as lines."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.holds:
            where = f"at all {self.tried:,} sizes that were tried, of" if self.tried else "for"
            yield f"{self.function} gives the {self.metric} of the model {where} {self.sizes}"
            return
        yield f"{self.function} does not give the {self.metric} of the model for {self.sizes}"
        for label, text in (("counted", self.counted), ("formula", self.formula), ("difference", self.difference)):
            if text:
                yield f"  {label + ':':<11} {text}"
        if self.counterexample is not None:
            point, counted, given = self.counterexample
            at = ", ".join(f"{symbol} = {size:,}" for symbol, size in point.items())
            yield f"  at {at}: counted {_number(counted)}, formula {_number(given)}{_compared(given, counted)}"
        for finding in self.findings:
            yield f"  the formula {finding.sentence}"
        if not self.findings and self.difference:
            yield "  no mistake with one, two or three modules was found that explains the difference"

    def __str__(self) -> str:
        return self.text()


def audit_law(  # noqa: PLR0913 -- the parts of a law
    law: MetricLaw,
    function: Callable[..., Any],
    *,
    name: str,
    per: str | None,
    tokens: str | None,
    modules: Mapping[str, Mapping[str, MetricLaw]],
    backward: bool,
    given: Mapping[str, Any] | None = None,
) -> Audit:
    """Compare a law with a Python function, for every size, and name the modules that make the difference.

    Args:
        law: the law of one metric of a model.
        function: the formula. Its parameters are symbols of the law, or keys of ``given``.
        name: the name of the function.
        per: the function's value is for one of these parts of a call, a formula of the sizes, such as "B*S" for the
            value of a token; None for the value of the whole call.
        tokens: the tokens of a call, a formula of the sizes; None if unknown. It explains formulas that multiply
            parameters.
        modules: path → metric → law.
        backward: whether the law includes the backward pass.
        given: parameter → value, for parameters that are no sizes.

    Raises:
        UsageError: there is no law, ``per`` or ``tokens`` has a mistake, or the function cannot be called.
    """
    if not law.found:
        raise UsageError(f"{law.metric}: {law.reason}, so it cannot be compared with {name}")
    parts = _expression("per", per, law)
    of_tokens = None if tokens is None else _expression("tokens", tokens, law)
    called = SizeFunction(function, name, law.domain, given)
    sizes = law.domain.text(law.letters, signs=False)
    formula = called.law(constants_of(function))
    if not formula.found:
        return _one_by_one(law, called, parts, sizes)
    weights = None if of_tokens is None else of_tokens.scaled(_TRAINING if backward else _FORWARD)
    for counted in law.pieces:
        for piece in formula.pieces:
            domain = counted.domain.common(piece.domain)
            if domain is None:
                continue
            value = piece.expression * parts
            rest = counted.expression - value
            if is_zero(rest, domain):
                continue
            points = map(domain.named, [domain.highest, *domain.corners(), *domain.spread_points(_SPREAD)])
            point = next((one for one in points if rest.at(one)), domain.named(domain.lowest))
            shown = _Shown(parts, law.letters, [counted.expression, value])
            findings = explain(
                rest,
                metric=law.metric,
                domain=domain,
                modules=modules,
                weights=weights,
                letters=law.letters,
                shown=shown,
            )
            return Audit(
                name,
                law.metric,
                holds=False,
                sizes=domain.text(law.letters, signs=False),
                findings=tuple(findings),
                counted=shown(counted.expression),
                formula=shown(value),
                difference=shown(rest),
                counterexample=_example(point, counted.expression.at(point), piece.expression.at(point), parts, law),
            )
    return Audit(name, law.metric, holds=True, sizes=sizes)


def _expression(what: str, text: str | None, law: MetricLaw) -> Expression:
    """Return a formula of the law's sizes as an expression; 1 for None.

    Raises:
        UsageError: the text is no such formula.
    """
    names = {name: symbol for symbol in law.domain.symbols for name in (symbol, law.letters.get(symbol, symbol))}
    formula = Formula("1" if text is None else text)
    formula.check_names(names)
    found = formula.expression(names)
    if found is None or formula.relation != "==":
        raise UsageError(f"{what} {text!r} is no sum of products of the sizes; write {'*'.join(law.domain.symbols)}")
    return found


def _one_by_one(law: MetricLaw, function: SizeFunction, parts: Expression, sizes: str) -> Audit:
    tried = 0
    for point in function.points():
        tried += 1
        named = law.domain.named(point)
        counted, given = law.at(**named), function.at(point) * parts.at(named)
        if counted != given:
            example = _example(named, Fraction(counted), function.at(point), parts, law)
            return Audit(function.name, law.metric, holds=False, sizes=sizes, counterexample=example)
    return Audit(function.name, law.metric, holds=True, sizes=sizes, tried=tried)


def _example(
    point: Mapping[str, int], counted: Fraction, given: Fraction, parts: Expression, law: MetricLaw
) -> tuple[dict[str, int], Fraction, Fraction]:
    """Return sizes with their short names, and the count and the formula for one part of a call."""
    return {law.letters.get(symbol, symbol): size for symbol, size in point.items()}, counted / parts.at(point), given


class _Shown:
    """Writes expressions for one part of a call, such as a token, if all of some expressions can be divided by it."""

    def __init__(self, parts: Expression, letters: Mapping[str, str], expressions: Iterable[Expression]) -> None:
        self._letters = letters
        self._parts = parts if all(_divided(one, parts) is not None for one in expressions) else constant(1)

    def __call__(self, expression: Expression) -> str:
        divided = _divided(expression, self._parts)
        return (expression if divided is None else divided).text(self._letters)


def _divided(expression: Expression, parts: Expression) -> Expression | None:
    """Return the expression divided by a product of sizes; None if that is no sum of products."""
    if len(parts.terms) != 1:
        return None
    ((factors, coefficient),) = parts.terms.items()
    found: dict[Monomial, Fraction] = {}
    for monomial, value in expression.terms.items():
        powers = dict(monomial)
        for atom, power in factors:
            if powers.get(atom, 0) < power:
                return None
            powers[atom] -= power
        found[tuple((atom, powers[atom]) for atom, _ in monomial if powers[atom])] = value / coefficient
    return Expression(found)


def _compared(given: Fraction, counted: Fraction) -> str:
    if not counted:
        return ""
    ratio = given / counted
    if Fraction(1, 2) < ratio < 2:  # noqa: PLR2004 -- from the double on, a factor reads better
        return f", {float(ratio - 1) * 100:+.3g}%"
    return f", {float(ratio):.4g} times the count"


def _number(value: Fraction) -> str:
    return f"{value.numerator:,}" if value.denominator == 1 else f"{value.numerator:,}/{value.denominator:,}"
