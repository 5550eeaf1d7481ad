"""The first sentence of a report on a run: how many tests break their budgets, and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_flopsbudget.safe_text import pluralize

if TYPE_CHECKING:
    from pytest_flopsbudget.results.report import Report, ReportedTest
    from pytest_flopsbudget.results.verdict import Outcome

#: Outcome of a failing measurement → what its test does. The first reason that applies to a test counts.
_REASONS: dict[Outcome, str] = {
    "over limit": "over a limit",
    "under limit": "under a limit",
    "unchecked limit": "with a limit that cannot be checked",
    "regressed": "grown beyond the baseline",
    "unknown operators": "with operators without a formula",
    "new": "without a baseline",
    "improved": "cheaper than the baseline",
    "changed": "changed",
}


class Headline(NamedTuple):
    """The sentence, and whether the run failed for its budgets, failed for other reasons, or passed."""

    mood: Literal["broken", "failed otherwise", "passed", "empty"]
    words: str


def headline(report: Report) -> Headline:
    """Return the most important fact about a run."""
    failing = Counter(_why(test) for test in report.tests if test.fails)
    measured = sum(bool(test.measurements) for test in report.tests)
    own = sum(test.own_failure for test in report.tests)
    if failing:
        why = ", ".join(f"{failing[reason]:,} {reason}" for reason in _REASONS.values() if failing[reason])
        return Headline("broken", f"broken in {failing.total():,} of {pluralize(measured, 'test')}: {why}")
    if report.total.broken:
        within = f"; {pluralize(measured, 'test')} within budget" if measured and not own else ""
        return Headline("broken", f"the run breaks the limit on its total{within}")
    if report.measured < report.run.required_measurements:
        return Headline("broken", required_words(report.measured, report.run.required_measurements))
    if own:
        within = f"{pluralize(measured, 'test')} measured, " if measured else ""
        return Headline("failed otherwise", f"{within}{own:,} failed for another reason")
    if measured:
        return Headline("passed", f"{pluralize(measured, 'test')} within budget")
    return Headline("empty", "nothing was measured")


def required_words(measured: int, required: int) -> str:
    """Return a sentence on a run that makes fewer measurements than --flops-budget-require asks for."""
    return f"{measured:,} of at least {required:,} measurements were made, which --flops-budget-require asks for"


def _why(test: ReportedTest) -> str:
    outcomes = {outcome for one in test.measurements if one.fails for outcome in (one.outcome, *one.failing)}
    return next((reason for outcome, reason in _REASONS.items() if outcome in outcomes), "over budget")
