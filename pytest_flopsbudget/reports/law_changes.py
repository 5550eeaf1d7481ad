"""Describe how the laws of a measurement differ from those of its baseline, coefficient by coefficient."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.formatting import format_percent
from pytest_flopsbudget.reports.wording import format_change
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from pytest_flopsbudget.results.comparison import Comparison
    from pytest_flopsbudget.results.law_changes import LawChange, LawPoint, TermChange


def law_sentence(change: LawChange) -> str:
    """Describe the change of one law: "flops regressed: 36,864*S^2 -> 73,728*S^2 (+100.0%); S: unchanged"."""
    verb = "regressed" if not change.allowed else "grew within its tolerance" if change.grows else "shrank"
    return f"{change.metric} {verb}: {law_change(change)}"


def law_change(change: LawChange) -> str:
    """Return what changed in a law, without its metric: "96*n^2 is new, 2,688*n -> 1,920*n (-28.6%)"."""
    if not change.new:
        return f"{change.old} -> no law"
    changed = ", ".join(_term(term) for term in change.terms if term.old != term.new)
    same = ", ".join("constant" if term.term == "1" else term.term for term in change.terms if term.old == term.new)
    if not changed:
        return f"{change.old} -> {change.new}"
    return f"{changed}; {same}: unchanged" if same else changed


def _term(term: TermChange) -> str:
    if not term.old or not term.new:
        return f"{term.new} is new" if term.new else f"{term.old} is gone"
    old, new = map(Fraction, term.coefficients)
    percent = f" ({format_percent(old, new)})" if old > 0 and new > 0 else ""
    return f"{term.old} -> {term.new}{percent}"


def law_lines(
    changes: Sequence[LawChange], *, in_headline: bool, in_table: Collection[str], verbose: bool
) -> Iterator[str]:
    """Yield lines on the laws that changed: both laws, where they cross, and the modules that make the difference.

    Args:
        changes: the changes to describe. The first one is described in full.
        in_headline: whether the sentence on the first change is shown above.
        in_table: the metrics whose values for the largest sizes a table below shows.
        verbose: whether every change is described in full.
    """
    for place, change in enumerate(changes):
        if place or not in_headline:
            yield f"  {law_sentence(change)}"
        if not place or verbose:
            yield from (f"      {line}" for line in _details(change, in_table=change.metric in in_table))


def _details(change: LawChange, *, in_table: bool) -> Iterator[str]:
    if change.new:
        yield f"{change.old} -> {change.new}, compared exactly for {change.sizes}"
    else:
        yield f"{change.old} before, compared at the counted sizes of {change.sizes}"
    if change.reason:
        yield change.reason
    yield from _crossing(change)
    if change.largest.old != change.largest.new and not in_table:
        words = format_change(change.largest.old, change.largest.new, change.metric)
        yield f"at {change.largest.sizes}: {words}"
    for module in change.modules:
        place = visible(module.path) or "the model itself"
        times, each = (f" (x{module.count:,})", " each") if module.count > 1 else ("", "")
        yield f"in {place}{times}: {module.old or '0'} -> {module.new or '0'}{each}"


def _crossing(change: LawChange) -> Iterator[str]:
    """Yield at which sizes the metric is less and more than before, and at which size it is beyond the tolerance."""
    if change.shrinks is not None and change.grows is not None:
        yield f"the laws cross: less at {change.shrinks.sizes}, {_point('more', change.grows)}"
    elif change.grows is not None:
        yield _point("more", change.grows)
    if change.beyond is not None and change.beyond != change.grows:
        yield _point("beyond the tolerance", change.beyond)


def _point(what: str, point: LawPoint) -> str:
    # Of several sizes, the point is one of many, and not the first one.
    first = "" if ", " in point.sizes else "first "
    return f"{first}{what} at {point.sizes}: {point.old:,} -> {point.new:,}"


def range_change(comparison: Comparison) -> str:
    """Return how the range of sizes changed: "n = 4 ... 4,096 -> n = 16 ... 8,192"; "" if it is as before."""
    return "" if comparison.range_changed is None else " -> ".join(comparison.range_changed)


def law_factor(change: LawChange) -> str:
    """Return the change for the largest common sizes in a few characters: "+5.0%", "x147"; "(law)" if it is equal."""
    old, new = change.largest.old, change.largest.new
    if old == new:
        return "(law)"
    return format_percent(old, new)
