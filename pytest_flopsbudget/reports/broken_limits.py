"""Describe limits that are broken, that cannot be checked, or that match nothing, in one sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.formatting import format_pair, format_percent
from pytest_flopsbudget.quantities.metrics import base_of, metric_of
from pytest_flopsbudget.reports.wording import format_growth, mark_estimate
from pytest_flopsbudget.results.limits import Ratio, UnmatchedPattern, Unmeasured, Violation, to_number
from pytest_flopsbudget.safe_text import pluralize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_flopsbudget.results.complexity import Complexity


def unmatched_pattern(item: UnmatchedPattern, complexity: Complexity) -> str:
    """Return a sentence on a pattern in a limit that matches nothing."""
    near = f"; near names: {', '.join(item.near)}" if item.near else ""
    match item.kind:
        case "module":
            return f"modules: no module of {complexity.model} matches {item.pattern!r}{near}"
        case "operator":
            near = near or f"; there are {', '.join(complexity.operators) or 'none'}"
            return f"operators: no counted operator of {complexity.model} matches {item.pattern!r}{near}"
        case "measurement":
            names = f"; the test measured {', '.join(item.near)}" if item.near else ""
            return f"measurements: no measurement of the test matches {item.pattern!r}{names}"
        case "share of":
            names = f"; the test measured {', '.join(item.measurements)}" if item.measurements else ""
            return (
                f"of: {item.pattern!r} is no measurement of the test and no module of {complexity.model}{near}{names}"
            )


def limit_sentence(item: Violation | Unmeasured) -> str:
    """Return a sentence on a limit that is broken or cannot be checked."""
    what = f"{item.metric}{part_of(item)}"
    if isinstance(item, Unmeasured) and base_of(item.metric) == "latency":
        return "latency has a limit, but was not timed: only flops_budget(model, inputs) of the fixture times a model"
    if isinstance(item, Unmeasured) and item.phase == "backward":
        return f"{what} has a limit, but no backward pass was measured: call flops_budget(model, inputs, backward=True)"
    if isinstance(item, Unmeasured) and metric_of(item.metric).of_serving:
        return f"{what} has a limit, but was not measured: {_without_serving(item.metric)}"
    if isinstance(item, Unmeasured):
        return f"{what} has a limit, but was not measured"
    amounts = to_number(item.measured), to_number(item.limit)
    measured, limit = format_pair(*amounts, metric_of(item.metric))
    share = ""
    if item.share is not None:
        share = f", which is {format_share(item.share)} of {item.share_of or 'the whole model'}"
    match item.bound:
        case "exact value":
            return f"{what} is not what its limit says: {measured}, exactly {limit} expected{share}"
        case "minimum":
            words = f"{measured} < {limit}{share} ({format_percent(amounts[1], amounts[0])})"
            is_bound = metric_of(item.metric).better == "more"
            return f"{what} under its minimum: {mark_estimate(words, item.metric) if is_bound else words}"
        case "maximum":
            percent = format_percent(amounts[1], amounts[0]) if item.limit else "the limit is 0"
            words = f"{measured} > {limit}{share}, {format_growth(item.excess, item.metric)} ({percent})"
            return f"{what} over its limit: {mark_estimate(words, item.metric)}"


def _without_serving(metric: str) -> str:
    if base_of(metric) == "requests":
        return "call flops_budget.serving(model, ...); the device's profile needs a memory, and the model a cache"
    return "call flops_budget.serving(model, prompt=..., new_tokens=...)"


def warning_lines(items: Iterable[Violation]) -> Iterator[str]:
    """Yield a sentence for each value beyond the warning of a limit. Modules with one limit share a sentence."""
    groups: dict[tuple[object, ...], list[Violation]] = {}
    for item in items:
        key = (item.metric, item.limit, item.source, item.bound, item.phase, item.operator, item.module is None)
        groups.setdefault(key, []).append(item)
    for group in groups.values():
        worst = max(group, key=lambda one: one.excess)
        amounts = to_number(worst.measured), to_number(worst.limit)
        measured, warning = format_pair(*amounts, metric_of(worst.metric))
        sign = "<" if worst.bound == "minimum" else ">"
        words = mark_estimate(f"{measured} {sign} {warning}", worst.metric)
        more = f" and of {pluralize(len(group) - 1, 'more module')}" if len(group) > 1 else ""
        yield f"warning: {worst.metric}{part_of(worst)}{more} beyond its warning limit: {words}, set by {worst.source}"


def part_of(item: Violation | Unmeasured) -> str:
    """Return words on the part of the model that a limit is on: " of layer4", " of the backward phase"; else ""."""
    if item.operator:
        return f" of {item.operator}"
    return f" of {item.module}" if item.module else f" of the {item.phase} phase" if item.phase else ""


def total_lines(items: Iterable[Violation]) -> Iterator[str]:
    """Yield one line for each broken limit on the sum over all measurements of a run."""
    for item in items:
        yield f"total of the run: {limit_sentence(item)}, set by {item.source}"


def format_share(share: Ratio) -> str:
    """Return a share as a percentage: "50%"."""
    percent = float(to_number(share) * 100)
    return f"{percent:.4g}%"
