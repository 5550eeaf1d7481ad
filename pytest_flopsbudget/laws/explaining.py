"""Explain how a formula differs from a law: modules that the formula leaves out, or counts twice or at half."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, groupby
from typing import TYPE_CHECKING, NamedTuple

from pytest_flopsbudget.laws.algebra.comparing import self_laws
from pytest_flopsbudget.laws.algebra.terms import Expression, symbol_expression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.laws.algebra.domains import Domain
    from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw

_WORDS = {Fraction(2): "twice", Fraction(1, 2): "at half", Fraction(1, 3): "at a third"}
#: How often a formula may count a module, with what such a mistake costs in the search for the simplest explanation.
_COSTS = {
    Fraction(0): 2,
    Fraction(2): 4,
    Fraction(1, 2): 4,
    Fraction(3): 6,
    Fraction(1, 3): 6,
    Fraction(4): 6,
    Fraction(1, 4): 7,
    Fraction(2, 3): 7,
    Fraction(3, 2): 7,
}
_OTHER_COST = 12
_LARGEST_PART = 64
_NO_PRODUCT_COST = 3
_GROWING_COST = 9
#: Windows and chunks are multiples of 16.
_WINDOW_COST, _WINDOW_STEP = 6, 16
#: An explanation with at most this score is not compared with those by more modules.
_SIMPLE = 7
#: One of several equal modules is a less likely mistake than all of them.
_ONE_OF_COST = 2
#: Each further mistake makes an explanation less likely.
_MISTAKE_COST = 2
#: So many candidates, those with the largest costs, are combined. The search takes seconds then.
_MOST_COMBINED = 160
_THREE = 3
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake of a formula."""

    #: The modules, such as "layers.*.attn"; "k_proj or v_proj" if the costs of both are equal.
    modules: str
    #: How often the formula counts them; None if this grows with a size, or if they compute no products.
    factor: Fraction | None
    #: The count less the formula, for these modules.
    difference: Expression
    sentence: str


class _Candidate(NamedTuple):
    names: tuple[str, ...]
    #: What the modules cost; or what a formula gives for parameters that are in no product.
    cost: Expression
    is_product: bool = True
    is_one_of_several: bool = False


class _Match(NamedTuple):
    score: int
    candidate: _Candidate
    #: The count less the formula, for the modules.
    difference: Expression
    factor: Fraction | None
    #: How often the formula counts the modules, if this grows with a size: "S/512".
    growth: str = ""
    at: str = ""


def explain(  # noqa: PLR0913 -- the parts of a law
    difference: Expression,
    *,
    metric: str,
    domain: Domain,
    modules: Mapping[str, Mapping[str, MetricLaw]],
    weights: Expression | None,
    letters: Mapping[str, str],
    shown: Callable[[Expression], str],
) -> list[Finding]:
    """Return the simplest mistakes that explain a difference, and what of the difference is left.

    Args:
        difference: the count less the formula.
        metric: the metric.
        domain: the sizes for which the difference holds.
        modules: path → metric → law.
        weights: what formulas multiply a number of parameters by: 6 times the tokens of a call; None if unknown.
        letters: symbol → its short name in texts.
        shown: returns an expression as text.

    Returns:
        At most three mistakes that add up to the difference; nothing if no three of them do.
    """
    candidates = _candidates(metric, domain, modules, weights)
    found = _single(difference, candidates, domain, letters)
    if not found or found[0].score > _SIMPLE:
        largest = sorted(candidates, key=lambda one: -abs(one.cost.at(domain.named(domain.highest))))
        several = _several(difference, largest[:_MOST_COMBINED], domain, letters)
        found = min([found, several], key=_score) if several and found else several or found
    return [_finding(match, candidates, shown) for match in found]


def _score(matches: Sequence[_Match]) -> int:
    return sum(match.score for match in matches) + _MISTAKE_COST * len(matches)


# Candidates


def _candidates(
    metric: str, domain: Domain, modules: Mapping[str, Mapping[str, MetricLaw]], weights: Expression | None
) -> list[_Candidate]:
    """Return the modules, alone and in groups of equal ones, that a formula may have counted wrongly."""
    of_metric = {path: laws[metric] for path, laws in modules.items() if metric in laws}
    totals = _expressions(of_metric, domain)
    own = _expressions(self_laws(modules, metric, next(iter(of_metric.values())).domain), domain) if of_metric else {}
    found: dict[tuple[Expression, bool, bool], list[str]] = {}
    for costs in (totals, own):
        for name, cost, count in _groups(costs):
            found.setdefault((cost, True, False), []).append(name)
            if count > 1:
                one = cost.scaled(Fraction(1, count))
                found.setdefault((one, True, True), []).append(f"one of the {count} modules {name}")
    if weights is not None:
        found_params = {path: laws["params"] for path, laws in modules.items() if "params" in laws}
        if found_params:
            domain_of = next(iter(found_params.values())).domain
            params = _expressions(self_laws(modules, "params", domain_of), domain)
            for name, cost in _no_products(params, own, weights):
                found.setdefault((cost, False, False), []).append(name)
    return [
        _Candidate(tuple(_outermost(names)), cost, is_product, is_one)
        for (cost, is_product, is_one), names in found.items()
    ]


def _expressions(laws: Mapping[str, MetricLaw], domain: Domain) -> dict[str, Expression]:
    """Return path → expression on the domain, for the laws that have one there and are not 0."""
    found = {}
    for path, law in laws.items():
        for piece in law.pieces:
            if piece.domain.common(domain) == domain and piece.expression:
                found[path] = piece.expression
    return found


def _groups(costs: Mapping[str, Expression]) -> Iterator[tuple[str, Expression, int]]:
    """Yield (name, cost of all, number) for modules whose paths differ in numbers: equal ones, and all together."""
    patterns: dict[str, list[str]] = {}
    for path in costs:
        patterns.setdefault(_NUMBER.sub("*", path), []).append(path)
    for pattern, paths in patterns.items():
        equal: dict[Expression, list[str]] = {}
        for path in paths:
            equal.setdefault(costs[path], []).append(path)
        for cost, same in equal.items():
            name = pattern if len(equal) == 1 and len(same) > 1 else _joined(same)
            yield name or "the whole model", cost.scaled(len(same)), len(same)
        if len(equal) > 1:
            total = Expression()
            for path in paths:
                total += costs[path]
            yield pattern, total, 1


def _joined(paths: Sequence[str]) -> str:
    """Return one name for paths that differ in one number: "layers.{0,2-5}.attn"; for others, the first and a count."""
    parts = [_NUMBER.split(path) for path in paths]
    numbers = [[int(number) for number in _NUMBER.findall(path)] for path in paths]
    places = [place for place, column in enumerate(zip(*numbers, strict=True)) if len(set(column)) > 1]
    if len(paths) == 1:
        return paths[0]
    if len(places) != 1:
        return f"{paths[0]} and {len(paths) - 1} more"
    (place,) = places
    ranges = []
    for _, group in groupby(enumerate(sorted(row[place] for row in numbers)), lambda item: item[1] - item[0]):
        run = [number for _, number in group]
        ranges.append(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}")
    names = [f"{{{','.join(ranges)}}}" if at == place else str(numbers[0][at]) for at in range(len(numbers[0]))]
    return "".join(text + name for text, name in zip(parts[0], [*names, ""], strict=True))


def _no_products(
    params: Mapping[str, Expression], own: Mapping[str, Expression], weights: Expression
) -> Iterator[tuple[str, Expression]]:
    """Yield (modules, what a formula gives for their parameters), for parameters that are in no product."""
    idle = {path: count * weights for path, count in params.items() if path not in own}
    # A shared parameter is counted in both modules that hold it, and subtracted once in a module above them.
    shared = {path: cost for path, cost in idle.items() if all(coefficient < 0 for coefficient in cost.terms.values())}
    for above, cost in shared.items():
        del idle[above]
        held = next((path for path, other in idle.items() if other == cost.scaled(-1)), None)
        if held is not None:
            del idle[held]
    yield from ((name, cost) for name, cost, _ in _groups(idle))
    rest = Expression()
    for path, count in params.items():
        biases = count * weights - own.get(path, Expression())
        # A module whose products need more than its parameters computes more than products with them.
        if path in own and all(coefficient > 0 for coefficient in biases.terms.values()):
            rest += biases
    if rest:
        yield "biases", rest
    vectors = rest
    for path, cost in idle.items():
        if "embed" not in path.lower() and not path.rpartition(".")[2].startswith(("wte", "wpe")):
            vectors += cost
    if vectors != rest:
        yield ("norms and biases" if rest else "norms"), vectors


def _outermost(names: Iterable[str]) -> list[str]:
    """Return the names that are not below another one, each once."""
    kept: list[str] = []
    for name in dict.fromkeys(names):
        if not any(name.startswith(f"{other}.") or other == "the whole model" for other in kept):
            kept.append(name)
    return kept


# Matching


def _ratio(one: Expression, other: Expression) -> Fraction | None:
    """Return the number by which ``other`` has to be multiplied to give ``one``; None if there is none."""
    monomial = next(iter(other.terms), None)
    if monomial is None or monomial not in one.terms or len(one.terms) != len(other.terms):
        return None
    ratio = one.terms[monomial] / other.terms[monomial]
    return ratio if one == other.scaled(ratio) else None


def _match(difference: Expression, candidate: _Candidate, domain: Domain, letters: Mapping[str, str]) -> _Match | None:
    """Return how the candidate alone explains the difference; None if it does not."""
    extra = _ONE_OF_COST if candidate.is_one_of_several else 0
    if not candidate.is_product:
        is_all = difference == candidate.cost.scaled(-1)
        return _Match(_NO_PRODUCT_COST, candidate, difference, None) if is_all else None
    left_out = _ratio(difference, candidate.cost)
    if left_out is not None:
        factor = 1 - left_out
        if factor < 0 or max(factor.numerator, factor.denominator) > _LARGEST_PART:
            return None
        return _Match(_COSTS.get(factor, _OTHER_COST) + extra, candidate, difference, factor)
    given = candidate.cost - difference
    for symbol in domain.symbols:
        size = symbol_expression(symbol)
        letter = letters.get(symbol, symbol)
        largest = domain.sizes(symbol)[-1]
        grows = _ratio(given, candidate.cost * size)
        ends = domain.sizes(symbol)[0], largest
        # A window or a chunk of whole length; other ratios come by chance.
        if grows is not None and grows > 0 and grows.numerator == 1 and grows.denominator <= largest:
            text = letter if grows == 1 else f"{letter}/{grows.denominator:,}"
            at = _extreme(letter, [(end, grows * end) for end in ends])
            score = _growing_score(grows.denominator)
            return _Match(score + extra, candidate, difference, None, text, at)
        shrinks = _ratio(given * size, candidate.cost)
        if shrinks is not None and shrinks.denominator == 1 and 0 < shrinks <= largest:
            at = _extreme(letter, [(end, shrinks / end) for end in ends if end])
            score = _growing_score(shrinks.numerator)
            return _Match(score + extra, candidate, difference, None, f"{_number(shrinks)}/{letter}", at)
    return None


def _extreme(letter: str, times: Iterable[tuple[int, Fraction]]) -> str:
    """Return the size at which the factor is farthest from 1, and this factor."""
    size, factor = max(times, key=lambda one: max(one[1], 1 / one[1]) if one[1] else 0)
    return f"{_number(factor)} times at {letter} = {size:,}"


def _growing_score(window: int) -> int:
    return _WINDOW_COST if window % _WINDOW_STEP == 0 else _GROWING_COST


def _single(
    difference: Expression, candidates: Sequence[_Candidate], domain: Domain, letters: Mapping[str, str]
) -> list[_Match]:
    found = [match for one in candidates if (match := _match(difference, one, domain, letters)) is not None]
    best = min(found, key=lambda match: match.score, default=None)
    return [] if best is None else [best]


def _several(
    difference: Expression, candidates: Sequence[_Candidate], domain: Domain, letters: Mapping[str, str]
) -> list[_Match]:
    """Return two or three candidates that explain the difference together, with the smallest sum of scores."""
    parts = [
        _Match(cost, one, one.cost.scaled(1 - factor), factor)
        for one in candidates
        if one.is_product and not one.is_one_of_several
        for factor, cost in _COSTS.items()
    ]
    parts += [_Match(_NO_PRODUCT_COST, one, one.cost.scaled(-1), None) for one in candidates if not one.is_product]
    pairs = []
    for part in parts:
        rest = difference - part.difference
        # A part that leaves more terms than before explains nothing.
        if len(rest.terms) <= len(difference.terms):
            pairs += [[part, last] for last in _single(rest, candidates, domain, letters)]
    pairs = [pair for pair in pairs if not _nested(pair)]
    best = min(pairs, key=_score, default=[])
    if best and _score(best) <= _SIMPLE + 2 * _MISTAKE_COST:
        return best
    by_difference: dict[Expression, _Match] = {}
    for part in sorted(parts, key=lambda match: -match.score):
        by_difference[part.difference] = part
    simple = [part for part in parts if part.score <= _COSTS[Fraction(2)]]
    triples = []
    for one, two in combinations(simple, 2):
        last = by_difference.get(difference - one.difference - two.difference)
        if last is not None and not _nested([one, two, last]):
            triples.append([one, two, last])
    return min([*triples, *([best] if best else [])], key=_score, default=[])


def _nested(matches: Sequence[_Match]) -> bool:
    """Return whether a module is in two of the explanations, alone or as a part of another one."""
    names = [match.candidate.names[0] for match in matches if match.candidate.is_product]
    return any(
        other in {one, "the whole model"} or one.startswith(f"{other}.")
        for place, one in enumerate(names)
        for other in (*names[:place], *names[place + 1 :])
    )


def _finding(match: _Match, candidates: Sequence[_Candidate], shown: Callable[[Expression], str]) -> Finding:
    name = " or ".join(match.candidate.names)
    if not match.candidate.is_product:
        given = shown(match.difference.scaled(-1))
        sentence = f"counts the parameters of {name}, which are in no product: {given}"
        # An embedding and an output layer of equal sizes cannot be distinguished by their costs.
        twice = next((one for one in candidates if one.is_product and one.cost == match.candidate.cost), None)
        if twice is not None:
            sentence += f" (or counts {' or '.join(twice.names)} twice)"
    elif match.growth:
        sentence = f"counts {name} {match.growth} times ({match.at})"
    elif match.factor == 0:
        sentence = f"leaves out {name}: {shown(match.difference)}"
    else:
        factor = match.factor or Fraction(0)
        sentence = f"counts {name} {_WORDS.get(factor, f'{_number(factor)} times')}{_hint(name, factor)}"
    return Finding(name, match.factor, match.difference, sentence)


def _hint(name: str, factor: Fraction) -> str:
    if name != "the whole model":
        return ""
    return {
        Fraction(1, 2): "; does it count a multiply-accumulate as one FLOP?",
        Fraction(1, 3): "; does it leave out the backward pass?",
        Fraction(3): "; does it include the backward pass, which the count leaves out?",
        Fraction(4, 3): "; does it include recomputation, which the count leaves out?",
    }.get(factor, "")


def _number(value: Fraction) -> str:
    return f"{value.numerator:,}" if value.denominator == 1 else f"{value.numerator:,}/{value.denominator:,}"
