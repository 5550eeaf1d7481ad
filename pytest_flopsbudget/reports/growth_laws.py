"""Describe broken limits on growth, on formulas, and on every size of a range."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_flopsbudget.reports.failure_rows import set_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flopsbudget.results.growth import GrowthViolation
    from pytest_flopsbudget.results.verdict import Verdict


def growth_sentence(item: GrowthViolation) -> str:
    """Return one sentence on a limit on the law of a metric."""
    what = f"{item.metric}{_part(item)}"
    match item.kind:
        case "order":
            return f"{what} grows with {_order(item.measured, item)}; allowed: {_order(item.allowed, item)}"
        case "limit":
            value = item.details[0] if item.details else ""
            first = "" if ", " in item.point else "first "
            return f"{what} over its limit, {first}at {item.point}: {value} > {item.limit}"
        case "formula":
            return f"{what} is not {item.limit}"
        case "unknown":
            limit = f"formula {item.limit}" if item.limit else f"limit on its growth with {item.symbol}"
            return f"{what}: the {limit} cannot be checked: {item.reason.partition(chr(10))[0]}"


def growth_lines(nodeid: str, verdict: Verdict, *, in_headline: bool) -> Iterator[str]:
    """Yield lines on the broken limits on laws: the law, where its terms come from, and where they cross.

    Args:
        nodeid: the test's node id.
        verdict: the measurement.
        in_headline: whether the first line of the failure has the sentence on the first of these limits.
    """
    for item in verdict.growth:
        by = f"set by {set_by(item.source, nodeid)}"
        yield f"  {by}" if in_headline and item is verdict.growth[0] else f"  {growth_sentence(item)} ({by})"
        if item.law:
            yield f"      {item.law}, exact for {item.sizes}"
        if item.kind == "order":
            yield from (f"      where: {line}" for line in item.details)
            if item.rest and item.overtakes is not None:
                yield f"      {item.leading} overtakes {item.rest} at {item.symbol} = {item.overtakes:,}"
        elif item.kind == "formula":
            yield from (f"      {line}" for line in item.details)
        elif item.kind == "unknown":
            yield from (f"      {line.strip()}" for line in item.reason.split("\n")[1:])


def _part(item: GrowthViolation) -> str:
    if item.module is None:
        return ""
    return f" of {item.module}{f' ({item.count:,} modules)' if item.count > 1 else ''}"


def _order(order: str, item: GrowthViolation) -> str:
    """Return the order with the name of the size in place of "n": "sequence^2", "no growth with sequence"."""
    if order == "1":
        return f"no growth with {item.symbol}"
    return re.sub(r"\bn\b", lambda _: item.symbol, order)
