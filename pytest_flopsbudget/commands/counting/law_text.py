"""The laws of a model as lines of text and as JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.laws.algebra.terms import Expression
from pytest_flopsbudget.quantities.formatting import format_exact, format_value
from pytest_flopsbudget.quantities.metrics import metric_of
from pytest_flopsbudget.reports.terminal.screen import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from fractions import Fraction

    from pytest_flopsbudget.laws.algebra.domains import Domain
    from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw
    from pytest_flopsbudget.laws.algebra.solving import Limit, Solution
    from pytest_flopsbudget.laws.law import Law, PartLaws

#: Without --metrics, modules are shown with their laws of this metric.
_OF_MODULES = "flops"


def lines(law: Law, metrics: Sequence[str], notes: Sequence[str], *, signs: bool, width: int) -> list[str]:
    """Return the laws of the model, and then those of its modules. Sentences are wrapped at ``width`` characters."""
    head = (f"{law.model}: {law.evidence}", *notes)
    found = [*(line for sentence in head for line in wrapped(sentence, width)), ""]
    width = max(map(len, metrics), default=0)
    found += [f"{metric:{width}}  {law[metric].text(signs=signs)}" for metric in metrics]
    # A user who names metrics wants to see these for the modules too.
    of_modules = metrics if list(metrics) != list(law) else [one for one in metrics if one == _OF_MODULES]
    for metric in of_modules:
        rows = list(_module_rows(law, metric, signs=signs))
        if rows:
            width = max(len(name) for name, _ in rows)
            found += ["", f"{metric} of modules", *(f"  {name:{width}}  {text}" for name, text in rows)]
    return found


def _module_rows(law: Law, metric: str, *, signs: bool) -> Iterator[tuple[str, str]]:
    """Yield (path, law) for modules whose law is not 0.

    Modules with equal laws whose paths differ in numbers only are one row.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for path, laws in law.modules.items():
        if path and metric in laws:
            text = laws[metric].text(signs=signs)
            if text != "0":
                groups.setdefault((re.sub(r"\d+", "*", path), text), []).append(path)
    patterns = [pattern for pattern, _ in groups]
    for (pattern, text), paths in groups.items():
        if len(paths) == 1:
            yield paths[0], text
        elif patterns.count(pattern) == 1:
            yield pattern, f"{text} (each of {len(paths)})"
        else:
            yield paths[0], f"{text} (and {len(paths) - 1} more like it)"


def values(law: Law, points: Sequence[Mapping[str, int]], metrics: Sequence[str]) -> list[str]:
    """Return the values of the metrics at some points."""
    width = max(map(len, metrics), default=0)
    rows = []
    for point in points:
        rows += ["", f"at {_sizes(point)}"]
        for metric in metrics:
            value = _value(law[metric], point)
            if value is None:
                text = "no law for this size"
            else:
                text, exact = format_value(value, metric_of(metric)), format_exact(value, metric_of(metric))
                text += "" if text == exact else f"  = {exact}"
            rows.append(f"  {metric:{width}}  {text}")
    return rows


def _value(law: MetricLaw, point: Mapping[str, int]) -> int | None:
    try:
        return law.at(**point)
    except UsageError:
        return None


def _sizes(point: Mapping[str, int]) -> str:
    return ", ".join(f"{symbol} = {size:,}" for symbol, size in point.items())


def answers(
    sizes: range, limit: Limit, solutions: Sequence[tuple[Mapping[str, int], Solution]], *, width: int
) -> list[str]:
    """Return sentences on the sizes that are within the limit of --solve.

    Args:
        sizes: the range of the size that is asked for.
        limit: the limit.
        solutions: (the other sizes, which sizes fit).
        width: the maximum number of characters in a line.
    """
    return [
        line
        for others, solution in solutions
        for line in ("", *wrapped(_answer(sizes, limit, others, solution), width))
    ]


def _answer(sizes: range, limit: Limit, others: Mapping[str, int], solution: Solution) -> str:
    symbol = limit.symbol
    question = f"{limit.metric} <= {limit.text}{f' at {_sizes(others)}' if others else ''}"
    taken = {size: format_exact(value, metric_of(limit.metric)) for size, value in solution.values.items()}
    largest = solution.largest
    if largest is None:
        return f"{question}: no size fits; {symbol} = {sizes[0]:,} takes {taken[sizes[0]]}"
    text = f"{question}: the largest size is {symbol} = {largest:,}, which takes {taken[largest]}"
    above = largest + sizes.step
    if above in taken:
        text += f"; {symbol} = {above:,} takes {taken[above]}"
    else:
        text += f"; the range ends there, so larger sizes may fit: write a longer range for --{symbol}"
    if solution.first_too_large is not None and solution.first_too_large < largest:
        text += f"; not all smaller sizes fit: {symbol} = {solution.first_too_large:,} does not"
    return text


def document(law: Law, metrics: Sequence[str]) -> dict[str, Any]:
    """Return the laws as JSON values."""
    return {
        "model": law.model,
        "sizes": _sizes_of(law.domain),
        "execution": law.execution,
        "counts": len(law.counted),
        "evidence": law.evidence,
        "laws": _laws(law, metrics),
        "modules": {path: _laws(laws, metrics) for path, laws in law.modules.items() if path},
        "operators": {name: _laws(laws, metrics) for name, laws in law.operators.items()},
    }


def values_document(law: Law, points: Sequence[Mapping[str, int]], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return the answers to --at as JSON values."""
    return [
        {"sizes": dict(point), "values": {metric: _value(law[metric], point) for metric in metrics}} for point in points
    ]


def answers_document(limit: Limit, solutions: Sequence[tuple[Mapping[str, int], Solution]]) -> list[dict[str, Any]]:
    """Return the answers to --solve as JSON values."""
    return [
        {
            "metric": limit.metric,
            "limit": limit.value,
            "for": limit.symbol,
            "sizes": dict(others),
            "largest": solution.largest,
            "first_too_large": solution.first_too_large,
        }
        for others, solution in solutions
    ]


def _sizes_of(domain: Domain) -> dict[str, dict[str, int]]:
    return {symbol: {"first": sizes[0], "last": sizes[-1], "step": sizes.step} for symbol, sizes in domain.ranges}


def _laws(laws: PartLaws, metrics: Sequence[str]) -> dict[str, Any]:
    return {metric: _law(laws[metric]) for metric in metrics if metric in laws}


def _law(law: MetricLaw) -> dict[str, Any]:
    if not law.found:
        return {"text": "", "reason": law.reason, "pieces": []}
    return {
        "text": law.text(signs=False),
        "pieces": [
            {
                # A piece for all sizes has none of its own.
                **({} if piece.domain == law.domain else {"sizes": _sizes_of(piece.domain)}),
                **({"powers_of_two": sorted(piece.domain.powers_of_two)} if piece.domain.powers_of_two else {}),
                "terms": {
                    Expression({monomial: 1}).text(signs=False): _number(coefficient)
                    for monomial, coefficient in piece.expression.sorted_terms()
                },
            }
            for piece in law.pieces
        ],
    }


def _number(value: Fraction) -> int | str:
    return value.numerator if value.denominator == 1 else str(value)
