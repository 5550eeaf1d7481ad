"""The report for pull requests and job summaries, in GitHub's Markdown: the verdict first, within a maximum size."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, get_args

from pytest_flopsbudget.identifiers import update_command
from pytest_flopsbudget.quantities.formatting import format_value
from pytest_flopsbudget.quantities.metrics import METRICS, count_of, metric_of, title_of
from pytest_flopsbudget.reports import details
from pytest_flopsbudget.reports.broken_limits import total_lines, warning_lines
from pytest_flopsbudget.reports.causes import ShownCauses, cause_head
from pytest_flopsbudget.reports.cells import amount, change_of, is_news, label, used
from pytest_flopsbudget.reports.failure import explain_one
from pytest_flopsbudget.reports.growth import run_changes, what_grew
from pytest_flopsbudget.reports.headline import headline
from pytest_flopsbudget.reports.law_changes import law_sentence
from pytest_flopsbudget.reports.markdown.markup import COMMENT, LONGEST_LINE, code, folded, size
from pytest_flopsbudget.reports.moved import NOT_HELD
from pytest_flopsbudget.reports.unknown import formula_hint, unknown_operators
from pytest_flopsbudget.reports.wording import format_change
from pytest_flopsbudget.results.comparison import tightens
from pytest_flopsbudget.results.verdict import Outcome
from pytest_flopsbudget.safe_text import pluralize, use_signs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_flopsbudget.results.report import Report, ReportedTest
    from pytest_flopsbudget.results.verdict import Verdict


#: The maximum share of the available bytes that the table may take.
_TABLE_SHARE = 0.6
#: The maximum share of the available bytes that the list of causes may take.
_CAUSES_SHARE = 0.2
#: Bytes that are reserved for lines on how much was left out.
_RESERVE = 400
_LONGEST_ID = 200
_MAX_ERRORS = 5

_SIGNS: dict[Outcome, str] = {
    "over limit": "❌",
    "under limit": "❌",
    "unchecked limit": "❌",
    "regressed": "❌",
    "unknown operators": "❌",
    "accepted": "✏️",
    "improved": "⬇️",
    "changed": "🔄",
    "new": "🆕",
    "ok": "✅",
}

_Row = tuple["ReportedTest", "Verdict"]


def text(report: Report, maximum: int = COMMENT) -> str:
    """Return the report as Markdown.

    Args:
        report: the run.
        maximum: the maximum number of bytes of the text. If this is too little, the least important rows and details
            are left out, and a line states their number.
    """
    rows = sorted(((test, one) for test in report.tests for one in test.measurements), key=_rank)
    head = "".join(f"{line}\n" for line in _head(report, rows))
    foot = "".join(f"{line}\n" for line in _foot(report, rows))
    room = maximum - size(head) - size(foot) - _RESERVE
    if room < 0:
        return f"{head.splitlines()[0]}\n" if maximum > _RESERVE else ""
    causes = _causes(report, room)
    room -= size(causes)
    table = _table(report, [row for row in rows if is_news(row[1])], room)
    details = _details(report, rows, room - size(table))
    quiet = _quiet(report, [row for row in rows if not is_news(row[1])], room - size(table) - size(details))
    return head + causes + table + details + quiet + foot


def _rank(row: _Row) -> tuple[int, int]:
    """Return a sort key: failing measurements come first, then all other measurements by outcome."""
    _, measurement = row
    return (0 if measurement.fails else 1), get_args(Outcome).index(measurement.outcome)


# The verdict


def _head(report: Report, rows: Sequence[_Row]) -> Iterator[str]:
    own = sum(test.own_failure for test in report.tests)
    found = headline(report)
    yield f"### {_MOODS[found.mood]}Complexity budgets: {found.words}"
    yield ""
    if rows:
        outcomes = Counter(measurement.outcome for _, measurement in rows)
        words = ", ".join(f"{outcomes[outcome]:,} {outcome}" for outcome in _SIGNS if outcomes[outcome])
        yield f"{pluralize(len(rows), 'measurement')}: {words}{_counted(report, rows)}."
    if own:
        yield f"{pluralize(own, 'test')} failed for a reason other than {'its' if own == 1 else 'their'} budget."
    if report.run.stopped:
        yield "⚠️ The run stopped before all of its tests ran."
    for line in (*total_lines(report.total.broken), *warning_lines(report.total.warned)):
        yield f"⚠️ {code(line[:LONGEST_LINE])}"
    for error in report.run.errors[:_MAX_ERRORS]:
        yield f"⚠️ {code(error[:LONGEST_LINE])}"
    yield ""


_MOODS = {"broken": "❌ ", "failed otherwise": "⚠️ ", "passed": "✅ ", "empty": ""}


def _counted(report: Report, rows: Sequence[_Row]) -> str:
    """Return words on the sum of the shown metric. If values of this metric do not add up, FLOPs are summed."""
    show = report.run.show
    if metric_of(show).aggregation != "sum" or metric_of(show).per:
        show = "flops"
    total = sum(count_of(measurement.complexity.metrics, show) or 0 for _, measurement in rows)
    return f"; {format_value(total, METRICS[show])} counted"


def _foot(report: Report, rows: Iterable[_Row]) -> Iterator[str]:
    complexities = [measurement.complexity for _, measurement in rows]
    hint = list(formula_hint(complexities)) if report.run.unknown_operators == "warn" else []
    if hint:
        yield from folded("operators without a formula: how to count them", hint)
    # A command is shown only if it would write the baseline. An update writes only the baselines of tests that pass.
    waiting = [
        (test, measurement)
        for test, measurement in rows
        if not measurement.accepted and test.would_pass() and not measurement.comparison.revision
    ]
    improved = [measurement for _, measurement in waiting if measurement.outcome == "improved"]
    if improved:
        # A measurement under other conditions than its baseline, for example with another input, does not tighten the
        # baseline.
        alike = all(tightens(measurement.comparison) for measurement in improved)
        command = update_command(update_mode="improved" if alike else None)
        yield f"{pluralize(len(improved), 'measurement')} improved; tighten the baseline: `{command}`"
        yield ""
    changed = [measurement for _, measurement in waiting if measurement.outcome == "changed"]
    if changed:
        words = f"{pluralize(len(changed), 'measurement')} changed: another input or model"
        yield f"{words}; to accept: `{update_command()}`"
        yield ""
    new = [one for test, one in waiting if one.outcome == "new" and test.would_pass("new")]
    if new and report.run.missing_baseline != "ignore":
        command = update_command(update_mode="new")
        yield f"{pluralize(len(new), 'measurement')} without a baseline; write it: `{command}`"
        yield ""


# The causes of several failures


def _causes(report: Report, room: int) -> str:
    """Return a list of the causes for which several tests fail, each with the command that accepts all its tests."""
    lines = []
    left = room * _CAUSES_SHARE
    for cause in report.causes:
        if len(cause.tests) > 1:
            # Only a whole command can be typed, so a line that is too long is left out.
            accept = f"; accept all of them: {code(cause.accept)}" if cause.accept else ""
            line = f"- **{code(use_signs(cause_head(cause))[:LONGEST_LINE])}**{accept}\n"
            left -= size(line)
            if left >= 0:
                lines.append(line)
    return "".join([*lines, "\n"]) if lines else ""


# The table


def _quiet(report: Report, rows: Sequence[_Row], room: int) -> str:
    """Return the table of the measurements that need no look. GitHub shows it after a click."""
    if not rows:
        return ""
    title = f"{pluralize(len(rows), 'measurement')} as in the baseline"
    head, foot = f"<details><summary>{title}</summary>\n\n", "</details>\n\n"
    table = _table(report, rows, int((room - size(head) - size(foot)) / _TABLE_SHARE))
    return f"{head}{table}{foot}" if size(head) + size(table) + size(foot) <= room else f"{title}.\n\n"


def _table(report: Report, rows: Sequence[_Row], room: int) -> str:
    if not rows:
        return ""
    lines = [
        f"| | measurement | {_head_cell(title_of(report.run.show))} | change | limit | params | verdict |\n",
        "|---|---|---:|---:|---:|---:|---|\n",
    ]
    left = room * _TABLE_SHARE
    shown = 0
    for test, measurement in rows:
        line = f"| {' | '.join(_cells(report, test, measurement))} |\n"
        left -= size(line)
        if left < 0:
            break
        lines.append(line)
        shown += 1
    lines.append("\n")
    if shown < len(rows):
        lines.append(f"{_left_out(rows[shown:])}\n\n")
    return "".join(lines)


def _head_cell(title: str) -> str:
    """Return the title of a column, escaped, because it may contain the name of a device from the pyproject."""
    return title if title.isascii() and title.isprintable() and not re.search(r"[^\w .()/[\]-]", title) else code(title)


def _cells(report: Report, test: ReportedTest, measurement: Verdict) -> tuple[str, ...]:
    metrics, show = measurement.complexity.metrics, report.run.show
    return (
        "❌" if measurement.fails else _SIGNS[measurement.outcome],
        code(_label(test, measurement)),
        amount(metrics, show).replace(">=", "≥").replace("<=", "≤"),
        change_of(measurement, show),
        used(measurement.share),
        amount(metrics, "params"),
        f"**{measurement.outcome}**" if measurement.fails else measurement.outcome,
    )


def _label(test: ReportedTest, measurement: Verdict) -> str:
    return _end_of(label(test.nodeid, measurement.name, alone=len(test.measurements) == 1))


def _end_of(text: str) -> str:
    """Shorten ``text`` at its beginning if it is too long. Ids of tests differ at their ends."""
    return text if len(text) <= _LONGEST_ID else f"…{text[1 - _LONGEST_ID :]}"


def _left_out(rows: Sequence[_Row]) -> str:
    outcomes = Counter(measurement.outcome for _, measurement in rows)
    words = ", ".join(f"{outcomes[outcome]:,} {outcome}" for outcome in _SIGNS if outcomes[outcome])
    return f"… and {pluralize(len(rows), 'more measurement')}, left out to keep to GitHub's size: {words}."


# The details of each row. GitHub shows them after a click.


def _details(report: Report, rows: Sequence[_Row], room: int) -> str:
    shown = []
    left_out = 0
    for title, lines in _behind(report, rows):
        block = "".join(f"{line}\n" for line in folded(title, lines))
        if size(block) <= room:
            shown.append(block)
            room -= size(block)
        else:
            left_out += 1
    if left_out:
        shown.append(f"… and the details of {left_out:,} more, left out to keep to GitHub's size.\n\n")
    return "".join(shown)


def _behind(report: Report, rows: Sequence[_Row]) -> Iterator[tuple[str, list[str]]]:
    """Yield (title, lines) for each measurement with details, then for each test with details but no measurement."""
    described = set()
    shown = ShownCauses()
    for test, measurement in rows:
        lines = list(_verdict_lines(report, measurement, test, shown))
        if test.nodeid not in described:
            lines += _of_test(report, test)
        described.add(test.nodeid)
        # Nearly every measurement has lines on peak memory. These lines alone are no reason for a fold.
        more = list(details.detail_lines(measurement.complexity))
        if lines or len(more) > len(list(details.peak_lines(measurement.complexity))):
            # The explanation of a failure may already contain some of these lines.
            yield _label(test, measurement), lines + [line for line in more if line not in lines]
    for test in report.tests:
        lines = list(_of_test(report, test))
        if lines and test.nodeid not in described:
            yield _end_of(test.nodeid), lines


def _verdict_lines(report: Report, measurement: Verdict, test: ReportedTest, shown: ShownCauses) -> Iterator[str]:
    """Yield the lines on why a measurement fails or how it changed, then its notes."""
    complexity = measurement.complexity
    if measurement.fails:
        text = explain_one(test.nodeid, measurement, test.measurements, own_failure=test.own_failure, shown=shown)
        yield from text.split("\n")
    else:
        for one in measurement.comparison.changes:
            yield f"{one.metric}: {format_change(one.old, one.new, one.metric)}{'' if one.judged else f' {NOT_HELD}'}"
        yield from map(law_sentence, measurement.comparison.laws)
        yield from run_changes(measurement.comparison)
        yield from what_grew(measurement.diffs)
    yield from warning_lines(measurement.warned)
    yield from complexity.notes
    if not measurement.fails:
        yield from details.noisy_latency_lines(measurement)
    reported = "unknown operators" in measurement.failing or report.run.unknown_operators == "ignore"
    if complexity.unknown_operators and not reported:
        yield "operators without a formula, missing from the count:"
        yield from unknown_operators(complexity)


def _of_test(report: Report, test: ReportedTest) -> Iterator[str]:
    if test.own_failure:
        yield "the test failed for another reason than its budget, so its numbers may be incomplete"
    if test.vanished and report.run.update != "all":
        yield f"in the baseline, but no longer measured: {', '.join(test.vanished)}"
