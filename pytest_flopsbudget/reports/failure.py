"""Explain why a test fails: what was changed in the model, what this costs, and how to accept it."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from pytest_flopsbudget.identifiers import split_nodeid, update_command
from pytest_flopsbudget.quantities.formatting import bound_words, format_value
from pytest_flopsbudget.quantities.metrics import metric_of
from pytest_flopsbudget.quantities.units import DECIMAL_FACTORS
from pytest_flopsbudget.reports import details
from pytest_flopsbudget.reports.broken_limits import limit_sentence, unmatched_pattern
from pytest_flopsbudget.reports.causes import edit_lines, input_change, place_of, short_edit
from pytest_flopsbudget.reports.failure_rows import (
    broken_metrics,
    changed_modules,
    group_lines,
    largest_modules,
    metric_table,
    module_groups,
    set_by,
)
from pytest_flopsbudget.reports.growth import execution_changes, operator_rows, other_model, what_grew
from pytest_flopsbudget.reports.growth_laws import growth_lines, growth_sentence
from pytest_flopsbudget.reports.law_changes import law_lines, law_sentence, range_change
from pytest_flopsbudget.reports.unknown import formula_hint, unknown_operators
from pytest_flopsbudget.reports.wording import format_change, is_estimate
from pytest_flopsbudget.results.folding import fold, unfold_path
from pytest_flopsbudget.results.identity import DEFAULT_NAME
from pytest_flopsbudget.results.limits import Unmeasured
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_flopsbudget.reports.causes import ShownCause, ShownCauses
    from pytest_flopsbudget.reports.failure_rows import BrokenMetric, ModuleGroup
    from pytest_flopsbudget.results.edits import Edit
    from pytest_flopsbudget.results.law_changes import LawChange
    from pytest_flopsbudget.results.limits import Bound, UnmatchedPattern
    from pytest_flopsbudget.results.verdict import Verdict


#: The maximum number of module names that the text offers for a pattern without a match.
_MAX_NAMES = 12
#: If a limit is below 1,000, and the value is at least 100 times the limit, the limit probably lacks a prefix.
_FEW = 1000
_TIMES = 100

#: What a limit is → where the values of several modules are that break it.
_BEYOND: dict[Bound, str] = {
    "maximum": "over their limit",
    "minimum": "under their minimum",
    "exact value": "off their exact value",
}


def explain(
    nodeid: str,
    verdicts: Sequence[Verdict],
    *,
    own_failure: bool = False,
    verbose: bool = False,
    shown: ShownCauses | None = None,
) -> str:
    """Return all reasons why a test's measurements fail; empty if there are none.

    The first line names the test, the metric that is most beyond its bound, the percentage and the module.

    Args:
        nodeid: the test's node id, as typed in the folder where pytest was started.
        verdicts: the test's measurements.
        own_failure: whether the test failed for a reason other than its budget.
        verbose: whether everything that is known about the failure is shown, and not only what is broken.
        shown: the causes that were shown before. A failure with such a cause has lines that refer to it. If this
            is None, or if ``verbose`` is true, every failure is shown in full.
    """
    several = len(verdicts) > 1
    blocks = []
    in_full = False
    for verdict in verdicts:
        if verdict.fails:
            name = _name(nodeid, verdict, several=several)
            earlier = shown.earlier(nodeid, verdict) if shown is not None and not verbose else None
            in_full |= earlier is None
            if earlier is None:
                blocks.append([*_in_full(nodeid, name, verdict, verbose)])
            else:
                blocks.append([*_reference(nodeid, name, verdict, earlier)])
    if in_full:
        blocks[-1] += _accept_line(nodeid, verdicts, own_failure=own_failure)
    return "\n\n".join("\n".join(map(visible, lines)) for lines in blocks)


def explain_one(
    nodeid: str, verdict: Verdict, verdicts: Sequence[Verdict], *, own_failure: bool, shown: ShownCauses | None = None
) -> str:
    """Return everything that is known on why one measurement of a test fails. For the arguments, see `explain`."""
    name = _name(nodeid, verdict, several=len(verdicts) > 1)
    earlier = shown.earlier(nodeid, verdict) if shown is not None else None
    if earlier is not None:
        return "\n".join(map(visible, _reference(nodeid, name, verdict, earlier)))
    lines = [*_in_full(nodeid, name, verdict, verbose=True), *_accept_line(nodeid, verdicts, own_failure=own_failure)]
    return "\n".join(map(visible, lines))


def _name(nodeid: str, verdict: Verdict, *, several: bool) -> str:
    """Return the test without its file, and the measurement's name if there are several measurements."""
    test_id = split_nodeid(nodeid)[1]
    return f"{test_id} {verdict.name}" if several or verdict.name != DEFAULT_NAME else test_id


def _in_full(nodeid: str, name: str, verdict: Verdict, verbose: bool) -> Iterator[str]:
    rows = broken_metrics(nodeid, verdict, verbose=verbose)
    groups = module_groups(verdict)
    yield headline(name, verdict, rows, groups)
    if verdict.comparison.range_changed:
        yield f"  another range: {range_change(verdict.comparison)}; laws are compared only for sizes that both have"
    yield from other_model(verdict.comparison, verdict.edits, verdict.complexity)
    yield from execution_changes(verdict.comparison)
    yield from edit_lines(verdict.edits, verbose=verbose)
    yield from law_lines(
        _regressed_laws(verdict),
        in_headline=_is_about_law(verdict, rows, groups),
        in_table={row.metric for row in rows},
        verbose=verbose,
    )
    yield from _sizes_of_table(verdict, rows)
    yield from metric_table(rows)
    yield from _missing_prefix(rows)
    for group in groups:
        yield from group_lines(group, nodeid)
    yield from _modules(verdict, rows)
    yield from _other_limits(nodeid, verdict)
    yield from growth_lines(nodeid, verdict, in_headline=not rows and not groups)
    yield from _unknown(verdict)
    if verdict.times > 1:
        yield f"  the largest of {verdict.times:,} measurements"
    yield from details.noisy_latency_lines(verdict)
    yield from _reasons(verdict, rows, verbose=verbose)
    if verbose:
        yield from _everything(verdict)


def _reference(nodeid: str, name: str, verdict: Verdict, earlier: ShownCause) -> Iterator[str]:
    """Yield the two lines of a failure whose cause an earlier test has shown in full.

    A table follows if limits are broken that the earlier test does not break.
    """
    rows = broken_metrics(nodeid, verdict)
    yield headline(name, verdict, rows, module_groups(verdict))
    words = ", ".join(short_edit(edit) for edit in verdict.edits[:1])
    more = [row for row in rows if row.label not in earlier.broken]
    grown = ", ".join(f"{row.label} {row.percent}" for row in more if row.limit is None)
    words += f"{'; ' if words and grown else ''}{f'here also {grown}' if grown else ''}"
    yield f"  the change that {earlier.test} shows{f': {words}' if words else ''}"
    yield from metric_table([row for row in more if row.limit is not None])


# The first line


def headline(name: str, verdict: Verdict, rows: Sequence[BrokenMetric], groups: Sequence[ModuleGroup]) -> str:
    """Return the first line of a failure: the metric, how far it is beyond its bound, the test, and the module.

    Another input comes first.

    Args:
        name: the test, without its file.
        verdict: the measurement.
        rows: the broken metrics.
        groups: the limits that several modules break.
    """
    about_law = _is_about_law(verdict, rows, groups)
    words = law_sentence(_regressed_laws(verdict)[0]) if about_law else _worst(verdict, rows, groups)
    if not words:
        return _reaction(name, verdict)
    if verdict.comparison.range_changed and verdict.comparison.laws:
        words = f"another range: {words}"
    elif verdict.comparison.inputs_changed and verdict.comparison.changes:
        words = f"another input, {input_change(verdict.comparison.inputs_changed)}: {words}"
    if verdict.edits:
        more = len(verdict.edits) - 1
        metric = _regressed_laws(verdict)[0].metric if about_law else _worst_row(rows).metric if rows else ""
        words += f" by {place_of(_edit_behind(verdict, metric))}{f' and {more:,} more' if more else ''}"
    return f"{words} in {name}" if (rows or groups) and not about_law else f"{name}: {words}"


def _edit_behind(verdict: Verdict, metric: str) -> Edit:
    """Return the edit through which the metric changed most. If it cannot be found, return the largest edit."""
    changes = [change for diff in verdict.diffs if diff.metric == metric for change in diff.modules]
    for change in changes:  # the largest change is first
        paths = set(unfold_path(change.path))
        for edit in verdict.edits:
            if any(path in paths for path in unfold_path(edit.path)):
                return edit
    return verdict.edits[0]


def _worst_row(rows: Sequence[BrokenMetric]) -> BrokenMetric:
    return max(rows, key=lambda one: (one.limit is not None, one.excess))


def _regressed_laws(verdict: Verdict) -> list[LawChange]:
    return [law for law in verdict.comparison.laws if not law.allowed]


def _is_about_law(verdict: Verdict, rows: Sequence[BrokenMetric], groups: Sequence[ModuleGroup]) -> bool:
    """Return whether the first line is about a law: one regressed, and no limit is broken."""
    return bool(_regressed_laws(verdict)) and not groups and all(row.limit is None for row in rows)


def _sizes_of_table(verdict: Verdict, rows: Sequence[BrokenMetric]) -> Iterator[str]:
    laws = verdict.complexity.laws
    if rows and laws is not None:
        yield f"  at the largest sizes, {', '.join(f'{symbol} = {one.last:,}' for symbol, one in laws.sizes.items())}:"


def _worst(verdict: Verdict, rows: Sequence[BrokenMetric], groups: Sequence[ModuleGroup]) -> str:
    """Return the most important broken limit, or else the largest growth over the baseline; "" if there is neither."""
    if rows:
        row = _worst_row(rows)
        bound = "limit" if row.limit is not None else "baseline"
        amount = row.percent if row.excess else format_value(row.new, metric_of(row.metric))
        if row.bound == "exact value":
            return f"{row.label} {amount} off its exact value"
        if row.bound == "minimum":
            return f"{row.label} {row.percent.lstrip('-')} under its minimum"
        if amount.startswith("x"):
            # A factor: "x12.3 its limit".
            return f"{row.label} {amount} its {bound}"
        sign = f"{bound_words(metric_of(row.metric))} " if is_estimate(row.metric) else ""
        return f"{row.label} {sign}{amount} over its {bound}{'' if row.excess else ' of 0'}"
    if groups:
        worst = max(groups, key=lambda group: len(group.items))
        where = f' "{worst.pattern}"' if worst.pattern is not None else ""
        return f"{worst.metric} of {len(worst.items):,} modules{where} {_BEYOND[worst.items[0].bound]}"
    for growth in verdict.growth:
        return growth_sentence(growth)
    for item in verdict.broken:
        if isinstance(item, Unmeasured):
            return limit_sentence(item)
    for pattern in verdict.unmatched:
        return unmatched_pattern(msgspec.structs.replace(pattern, near=(), measurements=()), verdict.complexity)
    return ""


def _reaction(name: str, verdict: Verdict) -> str:
    """Return which setting fails a measurement although no limit is broken and nothing grew."""
    if "new" in verdict.failing:
        return f'{name} has no baseline, and missing-baseline = "fail"'
    if "unknown operators" in verdict.failing:
        return f'{name} runs operators without a formula, and unknown-operators = "fail"'
    changes = [change for change in verdict.comparison.changes if change.judged]
    words = "".join(f": {one.metric} {format_change(one.old, one.new, one.metric)}" for one in changes[:1])
    if verdict.comparison.laws:
        words = f": {law_sentence(verdict.comparison.laws[0])}"
    return f'{name} {verdict.comparison.status}, and improved-baseline = "fail"{words}'


# What was changed


def _modules(verdict: Verdict, rows: Sequence[BrokenMetric]) -> Iterator[str]:
    """Yield the modules through which the broken metrics changed or, if nothing changed, the largest modules."""
    if any(diff.modules for diff in verdict.diffs):
        yield from changed_modules(verdict.diffs, verdict.edits, [row.metric for row in rows])
    elif verdict.diffs:
        for diff in verdict.diffs[:1]:
            yield from operator_rows(diff)
    else:
        yield from largest_modules(verdict.complexity, rows)


# Other reasons


def _missing_prefix(rows: Sequence[BrokenMetric]) -> Iterator[str]:
    """Yield a question on each limit that is so small that a prefix of its unit was probably forgotten."""
    for row in rows:
        metric = metric_of(row.metric)
        small = row.bound == "maximum" and isinstance(row.limit, int) and 0 < row.limit < _FEW
        if not small or row.share or metric.unit == "ns" or row.new < _TIMES * (row.limit or 0):
            continue
        fitting = [prefix for prefix in "kMGTPE" if (row.limit or 0) * DECIMAL_FACTORS[prefix] >= row.new]
        meant = dict.fromkeys([*fitting[:1], *({"G"} & set(fitting))])
        if meant:
            words = " or ".join(f'"{row.limit} {prefix}"' for prefix in meant)
            yield f"  the limit of {row.label} is {format_value(row.limit or 0, metric)}; was {words} meant?"


def _other_limits(nodeid: str, verdict: Verdict) -> Iterator[str]:
    for item in verdict.broken:
        if isinstance(item, Unmeasured):
            yield f"  {limit_sentence(item)} (set by {set_by(item.source, nodeid)})"
    for pattern in verdict.unmatched:
        yield f"  {unmatched_pattern(pattern, verdict.complexity)} (set by {set_by(pattern.source, nodeid)})"
        if pattern.kind == "module":
            yield f"  its modules: {_names(verdict, pattern)}"


def _names(verdict: Verdict, pattern: UnmatchedPattern) -> str:
    """Return the paths of the model's modules: near names first, then the paths near the root."""
    folded = [path for path in fold(verdict.complexity.modules) if path]
    names = [*dict.fromkeys((*pattern.near, *sorted(folded, key=lambda path: path.count("."))))]
    more = len(names) - _MAX_NAMES
    return f"{', '.join(names[:_MAX_NAMES])}{f' and {more:,} more' if more > 0 else ''}" if names else "none"


def _unknown(verdict: Verdict) -> Iterator[str]:
    if "unknown operators" in verdict.failing:
        yield from unknown_operators(verdict.complexity)
        yield from formula_hint([verdict.complexity])


def _reasons(verdict: Verdict, rows: Sequence[BrokenMetric], *, verbose: bool) -> Iterator[str]:
    """Yield lines on what filled the memory and what bounds the time, if no edit explains why these metrics grew."""
    if verdict.edits and not verbose:
        return
    metrics = {row.metric for row in rows}
    if "peak_memory" in metrics:
        yield from details.peak_lines(verdict.complexity)
    if any(is_estimate(metric) and not metric_of(metric).of_serving for metric in metrics):
        yield from details.time_lines(verdict.complexity)


def _everything(verdict: Verdict) -> Iterator[str]:
    """Yield what only a verbose failure shows."""
    for source in dict.fromkeys(item.source for item in (*verdict.broken, *verdict.unmatched)):
        yield f"limit set by {source}"
    for change in filter(attrgetter("judged"), verdict.comparison.changes):
        yield f"{change.metric}: {format_change(change.old, change.new, change.metric)}"
    yield from what_grew(verdict.diffs)


# How to accept


def _accept_line(nodeid: str, verdicts: Sequence[Verdict], *, own_failure: bool) -> Iterator[str]:
    acceptable = [verdict for verdict in verdicts if verdict.failing and verdict.failing != ("unknown operators",)]
    revisions = {verdict.comparison.revision for verdict in acceptable} - {""}
    if revisions:
        yield from _allow_lines(acceptable, revisions.pop())
    elif acceptable:
        yield f"to accept{_held(verdicts, own_failure=own_failure)}: {update_command(nodeid)}"


def _allow_lines(verdicts: Sequence[Verdict], revision: str) -> Iterator[str]:
    """Yield how to allow growth over another revision, for which there is no baseline file to update."""
    grown = [
        change for verdict in verdicts for change in verdict.comparison.changes if change.judged and not change.allowed
    ]
    if not grown:
        return
    percents = [ceil(Fraction(100 * (change.new - change.old), change.old)) if change.old else None for change in grown]
    most = max((percent for percent in percents if percent is not None), default=0)
    tolerance = '"inf"' if None in percents else f'"{most}%"'
    yield f"before: measured at {revision}; to allow the growth: @pytest.mark.flops_budget(tolerance={tolerance})"


def _held(verdicts: Sequence[Verdict], *, own_failure: bool) -> str:
    """Return what the user has to do before an update accepts the test. An update writes only tests that pass."""
    conditions = []
    if any(verdict.broken or verdict.unmatched or verdict.growth for verdict in verdicts):
        conditions.append("the limits allow it")
    if any("unknown operators" in verdict.failing for verdict in verdicts):
        conditions.append("each operator has a formula")
    if own_failure:
        conditions.append("the test passes otherwise")
    return f", once {' and '.join(conditions)}" if conditions else ""
