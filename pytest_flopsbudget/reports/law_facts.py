"""The laws of a measurement in words: what doubling a size costs, and where one term overtakes another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.formatting import format_factor, format_percent
from pytest_flopsbudget.quantities.metrics import sort_metrics
from pytest_flopsbudget.results.law_facts import crossings, doublings
from pytest_flopsbudget.safe_text import pluralize, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw
    from pytest_flopsbudget.results.law_data import MeasuredLaws
    from pytest_flopsbudget.results.law_facts import Doubling

#: The maximum number of modules that are named for a law.
_MOST_MODULES = 4


def law_facts(laws: MeasuredLaws, *, signs: bool) -> Iterator[tuple[int, str]]:
    """Yield (depth, line) on the laws of a measurement: depth 0 is a law, depth 1 what it means.

    Args:
        laws: the laws.
        signs: whether to use signs beyond ASCII.
    """
    if laws.evidence:
        yield 0, laws.evidence
    constant = []
    for metric in sort_metrics(laws.metrics):
        law = laws.law(metric)
        if law is None:
            continue
        if not law.found:
            yield 0, f"{metric}: {law.reason}"
        elif _is_constant(law):
            constant.append(metric)
        else:
            yield 0, f"{metric} = {law.text(signs=signs)}"
            yield from ((1, words) for words in _meaning(laws, law, signs=signs))
    if constant:
        yield 0, f"equal for every size: {', '.join(constant)}"


def law_in_words(laws: MeasuredLaws | None, metric: str, *, signs: bool) -> str:
    """Return the law of a metric and its sizes: "4·S² + 8·S, for S = 16 … 1,024"; "" if there is none."""
    law = laws.law(metric) if laws is not None else None
    if law is None:
        return ""
    return f"{law.text(signs=signs)}, for {law.domain.text(law.letters, signs=signs)}"


def _is_constant(law: MetricLaw) -> bool:
    return len(law.pieces) == 1 and not law.pieces[0].expression.symbols()


def _meaning(laws: MeasuredLaws, law: MetricLaw, *, signs: bool) -> Iterator[str]:
    for symbol in law.domain.symbols:
        letter = law.letters.get(symbol, symbol)
        if not any(symbol in piece.expression.symbols() for piece in law.pieces):
            if len(law.pieces) == 1:
                yield f"does not grow with {letter}"
            continue
        doubled = doublings(law, symbol)
        costs = [f"{_factor(one)} from {one.size:,} to {2 * one.size:,}" for one in doubled]
        smooth = len(law.pieces) == 1 and all(atom.kind == "symbol" for atom in law.expression.atoms())
        if smooth and len({one.factor for one in doubled}) == 1:
            costs = [_factor(doubled[0])]
        if costs:
            yield f"doubling {letter} costs {', '.join(costs)}"
        for crossing in crossings(law, symbol):
            faster, slower = (one.text(law.letters, signs=signs) for one in (crossing.faster, crossing.slower))
            if crossing.size is None:
                continue
            if crossing.always:
                yield f"{faster} is more than {slower} at {letter} = {crossing.size:,} already"
            else:
                beyond = "" if crossing.in_range else ", beyond the range"
                yield f"{faster} overtakes {slower} at {letter} = {crossing.size:,}{beyond}"
    yield from _modules(laws, law, signs=signs)


def _factor(one: Doubling) -> str:
    return format_factor(one.factor) if one.factor >= 1 else format_percent(1, one.factor)


def _modules(laws: MeasuredLaws, law: MetricLaw, *, signs: bool) -> Iterator[str]:
    """Yield the modules that make the first term of the law, the one that grows fastest."""
    piece = law.pieces[-1]
    first = next(iter(piece.expression.sorted_terms()), None)
    if first is None:
        return
    found = [
        (path, own)
        for path, own in laws.module_laws(law.metric).items()
        if any(first[0] in part.expression.terms for part in own.pieces) and (path or own.pieces != law.pieces)
    ]
    for path, own in found[:_MOST_MODULES]:
        yield f"in {visible(path) or 'the model itself'}: {own.text(signs=signs)}"
    if len(found) > _MOST_MODULES:
        yield f"and in {pluralize(len(found) - _MOST_MODULES, 'more group')} of modules"
