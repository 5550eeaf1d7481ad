"""Annotations for GitHub Actions. GitHub shows a broken budget at the test, in the changed files of a pull request.

The commands, and the characters to escape in them, follow ``actions/toolkit``, ``packages/core/src/command.ts``.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Literal

from pytest_flopsbudget.identifiers import update_command
from pytest_flopsbudget.reports import details
from pytest_flopsbudget.reports.broken_limits import warning_lines
from pytest_flopsbudget.reports.causes import ShownCauses, cause_lines
from pytest_flopsbudget.reports.failure import explain
from pytest_flopsbudget.reports.growth import signature_changes
from pytest_flopsbudget.results.comparison import tightens
from pytest_flopsbudget.safe_text import pluralize, use_signs, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_flopsbudget.results.report import Report, ReportedTest


Level = Literal["error", "warning", "notice"]

#: The maximum number of annotations of each kind that GitHub shows for a step.
MAX_ANNOTATIONS = 10
#: The maximum number of lines in a message. The complete text is in the log and in the job's summary.
_MAX_LINES = 12
_LONGEST_LINE = 500


def commands(report: Report, folder: str) -> list[str]:
    """Return the commands that make GitHub show annotations, one line each. Errors come first.

    GitHub shows a limited number of annotations of each level. If there are more, the last one states how many tests
    are left out.

    Args:
        report: the run.
        folder: the run's root folder, relative to the top of the repository.
    """
    found: dict[Level, list[tuple[ReportedTest, str, str]]] = {"error": [], "warning": [], "notice": []}
    shown = ShownCauses()
    for test in report.tests:
        for level, title, message in _of_test(test, report, shown):
            found[level].append((test, title, message))
    return [line for level, items in found.items() for line in _of_level(level, items, folder)]


def _of_level(level: Level, items: Sequence[tuple[ReportedTest, str, str]], folder: str) -> Iterator[str]:
    shown = items if len(items) <= MAX_ANNOTATIONS else items[: MAX_ANNOTATIONS - 1]
    for test, title, message in shown:
        place = {
            "file": posixpath.normpath(posixpath.join(folder, _visible_lines(test.file))),
            "line": str(test.line),
            "title": title,
        }
        yield f"::{level} {','.join(f'{key}={_property(value)}' for key, value in place.items())}::{_data(message)}"
    rest = items[len(shown) :]
    if rest:
        names = "\n".join(_visible_lines(test.nodeid) for test, *_ in rest[:_MAX_LINES])
        title = f"flops budget: {pluralize(len(rest), 'more test')} like these"
        yield annotation(level, title, names)


def annotation(level: Level, title: str, message: str) -> str:
    """Return the command, one line, that makes GitHub show an annotation that belongs to no file."""
    return f"::{level} title={_property(title)}::{_data(_visible_lines(message))}"


def _of_test(test: ReportedTest, report: Report, shown: ShownCauses) -> Iterator[tuple[Level, str, str]]:
    """Yield (level, title, text) for each annotation of a test."""
    name = _visible_lines(test.nodeid)
    if test.fails:
        failing = [measurement for measurement in test.measurements if measurement.fails]
        # One annotation describes a cause.
        earlier = [shown.earlier(test.nodeid, measurement) for measurement in failing]
        if None not in earlier:
            return
        words = ", ".join(dict.fromkeys(measurement.outcome for measurement in failing))
        message = _short(explain(test.nodeid, test.measurements, own_failure=test.own_failure), name)
        yield "error", f"flops budget: {words}", "\n".join([message, *_more_tests(test, report)])
        return
    unknown = sorted({key for one in test.measurements for key in one.complexity.unknown_operators})
    if unknown and report.run.unknown_operators == "warn":
        message = f"{name}\noperators without a formula, missing from the count: {visible(', '.join(unknown))}"
        yield "warning", "flops budget: unknown operators", message
    for title, lines in _noted(test):
        yield "warning", f"flops budget: {title}", "\n".join([name, *map(visible, lines)])
    gone = [*test.vanished, *(key for one in test.measurements for key in one.comparison.vanished)]
    if gone and report.run.update != "all":
        message = f"{name}\nin the baseline, but no longer measured: {visible(', '.join(gone))}"
        yield "warning", "flops budget: no longer measured", message
    if not test.would_pass() or any(one.comparison.revision for one in test.measurements):
        return
    waiting = [measurement for measurement in test.measurements if not measurement.accepted]
    outcomes = {measurement.outcome for measurement in waiting}
    if "new" in outcomes and report.run.missing_baseline == "warn":
        yield "notice", "flops budget: no baseline", f"{name}\nwrite it with {update_command(update_mode='new')}"
    if "improved" in outcomes:
        alike = any(tightens(measurement.comparison) for measurement in waiting)
        message = f"{name}\ntighten the baseline with {update_command(update_mode='improved' if alike else None)}"
        yield "notice", "flops budget: improved", message
    if "changed" in outcomes:
        changed = dict.fromkeys(line for one in waiting for line in signature_changes(one.comparison))
        message = "\n".join([name, *map(visible, changed), f"accept it with {update_command()}"])
        yield "notice", "flops budget: changed", message


def _noted(test: ReportedTest) -> Iterator[tuple[str, list[str]]]:
    """Yield (title, lines) for values beyond a warning limit, and for latencies that are not judged."""
    beyond = [line for one in test.measurements for line in warning_lines(one.warned)]
    if beyond:
        yield "beyond a warning limit", beyond
    uneven = [line for one in test.measurements for line in details.noisy_latency_lines(one)]
    if uneven:
        yield "latency not judged", uneven


def _more_tests(test: ReportedTest, report: Report) -> Iterator[str]:
    """Yield lines on the causes for which this test is the first one of several."""
    for cause in report.causes:
        if len(cause.tests) > 1 and cause.tests[0] == test.nodeid:
            title, _, *accept = cause_lines(cause)
            yield from (visible(use_signs(line.strip()))[:_LONGEST_LINE] for line in (title, *accept))


def _short(text: str, name: str) -> str:
    lines = use_signs(text).splitlines()
    more = [f"and {pluralize(len(lines) - _MAX_LINES, 'more line')} in the log"] if len(lines) > _MAX_LINES else []
    return "\n".join([name, *(line[:_LONGEST_LINE] for line in lines[:_MAX_LINES]), *more])


def _visible_lines(text: str) -> str:
    """Return ``text``, safe to show. Line breaks are kept, because GitHub's commands have escapes for line breaks."""
    return "".join(part if part in {"\r", "\n"} else visible(part) for part in re.split(r"([\r\n])", text))


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
