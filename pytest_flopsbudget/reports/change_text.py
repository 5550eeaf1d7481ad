"""Describe changed measurements in the form of a failure: what was edited, then a table of the metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.formatting import format_pair, format_percent, format_value
from pytest_flopsbudget.quantities.metrics import METRICS, metric_of, sort_metrics
from pytest_flopsbudget.reports import cells
from pytest_flopsbudget.reports.causes import (
    cause_title,
    edit_line,
    edit_lines,
    input_change,
    ranges_by_metric,
    without_followers,
)
from pytest_flopsbudget.reports.failure_rows import align, changed_modules
from pytest_flopsbudget.reports.growth import operator_rows, other_model, what_grew
from pytest_flopsbudget.reports.law_changes import law_factor, law_lines, range_change
from pytest_flopsbudget.reports.moved import NOT_HELD
from pytest_flopsbudget.reports.wording import estimate_sign
from pytest_flopsbudget.results.change_groups import is_judged
from pytest_flopsbudget.results.changes import KINDS, differing
from pytest_flopsbudget.safe_text import pluralize, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_flopsbudget.results.change_groups import ChangeGroup
    from pytest_flopsbudget.results.changes import Change, Key
    from pytest_flopsbudget.results.comparison import Comparison


#: The heads of the columns that `row` fills.
HEADS = ("FLOPs before", "FLOPs", "change", "params", "verdict")

_RAN = {"shapes": "on shapes alone", "real": "on real data", "watched": "as the test ran it"}


def summarize(found: Sequence[Change]) -> str:
    """Count the changes of each kind: "3 measurements: 1 regressed, 2 unchanged"."""
    kinds = Counter(change.kind for change in found)
    words = ", ".join(f"{kinds[kind]:,} {kind}" for kind in KINDS if kinds[kind])
    return f"{pluralize(len(found), 'measurement')}: {words}" if found else "no measurements on either side"


def not_held_note(found: Sequence[Change]) -> str:
    """Explain the mark `NOT_HELD`; return "" if no changed metric has it."""
    compared = (change.comparison for change in differing(found))
    if all(_is_held(item.metric) for comparison in compared if comparison for item in comparison.changes):
        return ""
    return f"{NOT_HELD}: growth of this metric fails no test, unless hold in the pyproject.toml or in a marker names it"


def label(key: Key) -> str:
    """Return the test's node id, with the measurement's name if the test gave it one."""
    return visible(cells.label(key.nodeid, key.name, alone=True))


def _is_held(metric: str) -> bool:
    """Return whether baselines hold the metric by default. The compared files do not say what the tests chose."""
    return not metric_of(metric).of_kernels


# One measurement


def change_lines(change: Change, *, verbose: bool) -> Iterator[str]:
    """Yield what was edited in a measurement, a table of the metrics, and the modules that changed.

    Args:
        change: the measurement on both sides.
        verbose: whether all edits, all metrics, and all modules and operators of each metric are shown.
    """
    if change.old_key is not None:
        yield f"  was {label(change.old_key)}"
    comparison = change.comparison
    if comparison is None or change.new is None:
        return
    yield from (f"  {line}" for line in _run_lines(comparison))
    yield from (f"  {line}" for line in other_model(comparison, change.edits, change.new))
    yield from edit_lines(change.edits, verbose=verbose)
    texts = {item.metric: format_percent(item.old, item.new) for item in comparison.changes}
    shown = [*texts] if verbose else without_followers(texts, texts)
    in_table = {item.metric for item in comparison.changes}
    yield from law_lines(comparison.laws, in_headline=False, in_table=in_table, verbose=verbose)
    yield from _metric_table(comparison, shown)
    if verbose:
        yield from (f"  {line}" for line in what_grew(change.diffs))
    elif any(diff.modules for diff in change.diffs):
        yield from changed_modules(change.diffs, change.edits, [*filter(_is_held, shown)] or shown)
    elif change.diffs:
        yield from operator_rows(change.diffs[0])


def _run_lines(comparison: Comparison) -> Iterator[str]:
    """Yield a line for each difference in the input, in how the model ran, and in what was measured."""
    if comparison.range_changed:
        yield f"another range: {range_change(comparison)}; laws are compared only for sizes that both have"
    if comparison.inputs_changed:
        yield f"another input: {input_change(comparison.inputs_changed)}"
    if comparison.execution_changed:
        yield "ran {}, then {}".format(*(_RAN[execution] for execution in comparison.execution_changed))
    if comparison.backward_changed:
        yield "measured {} the backward pass, then {}".format(
            *("with" if backward else "without" for backward in comparison.backward_changed)
        )
    if comparison.pytorch_changed:
        yield "measured with PyTorch {}, then {}".format(*comparison.pytorch_changed)
    for metric in comparison.vanished:
        yield f"{metric} is no longer measured"


def _metric_table(comparison: Comparison, shown: Sequence[str]) -> list[str]:
    rows = [("metric", "before", "now", "change", "")]
    for item in comparison.changes:
        if item.metric in shown:
            sign = estimate_sign(item.metric)
            old, new = format_pair(item.old, item.new, metric_of(item.metric))
            mark = "" if _is_held(item.metric) else NOT_HELD
            rows.append((item.metric, f"{sign}{old}", f"{sign}{new}", format_percent(item.old, item.new), mark))
    return align(rows, left=(0, 4)) if len(rows) > 1 else []


# Several measurements


def group_title(group: ChangeGroup) -> str:
    """Describe what several measurements have in common: "Conv2d 3x3 -> 5x5 in blocks.*.conv: 11 measurements".

    If there is one measurement, return its input and its first edit, with all settings; "" if both are unchanged.
    """
    comparison, edits = group.changes[0].comparison, group.changes[0].edits
    if group.cause is None:
        inputs = comparison.inputs_changed if comparison is not None else None
        words = [f"another input, {input_change(inputs)}"] if inputs else []
        words += [edit_line(edit) for edit in edits[:1]]
        more = f" and {pluralize(len(edits) - 1, 'more edited module')}" if len(edits) > 1 else ""
        return f"{'; '.join(words)}{more}"
    if comparison is None or is_judged(group.changes[0]):
        title = cause_title(group.cause)
    else:
        title = "; ".join(_run_lines(comparison))
    return f"{title}: {pluralize(len(group.changes), 'measurement')}"


def group_ranges(group: ChangeGroup) -> Iterator[str]:
    """Yield a line with the change of the metrics that a baseline holds by default, then one with the other metrics."""
    ranges = ranges_by_metric(group.cause) if group.cause is not None else {}
    for held, mark in ((True, ""), (False, f" {NOT_HELD}")):
        words = [f"{metric} {text}" for metric, text in ranges.items() if _is_held(metric) == held]
        if words:
            yield f"  {', '.join(words)}{mark}"


def group_notes(changes: Iterable[Change]) -> Iterator[str]:
    """Yield a line for each renamed measurement, and for each vanished metric that the title does not name."""
    vanished: dict[str, None] = {}
    for change in changes:
        if change.old_key is not None:
            yield f"  {label(change.key)} was {label(change.old_key)}"
        if change.comparison is not None and is_judged(change):
            vanished.update(dict.fromkeys(change.comparison.vanished))
    yield from (f"  {metric} is no longer measured" for metric in vanished)


# Rows of a table of measurements


def row(change: Change) -> tuple[str, ...]:
    """Return the cells of a change's table row, without the first column. `HEADS` lists the other columns."""
    flops = METRICS["flops"]
    before, after = (
        "" if side is None else format_value(side.value("flops"), flops) if "flops" in side.metrics else "not measured"
        for side in (change.old, change.new)
    )
    return before, after, _flops_change(change), _percent(change, "params"), change.kind


def _flops_change(change: Change) -> str:
    if change.comparison is None:
        return ""
    percent = _percent(change, "flops")
    others = {item.metric for item in change.comparison.changes} - {"flops", "params"}
    if not others or not percent == _percent(change, "params") == "=":
        return percent
    # The verdict of this row does not follow from the two shown columns.
    return "(other)" if any(map(_is_held, others)) else NOT_HELD


def _percent(change: Change, metric: str) -> str:
    if change.comparison is None:
        return ""
    found = [item for item in change.comparison.changes if item.metric == metric]
    laws = [law for law in change.comparison.laws if law.metric == metric]
    if found:
        return format_percent(found[0].old, found[0].new)
    return law_factor(laws[0]) if laws else "="


def percent_table(changes: Sequence[Change], maximum: int) -> list[str]:
    """Return a table of the measurements with the change of each metric, for at most ``maximum`` measurements."""
    texts = [
        {item.metric: format_percent(item.old, item.new) for item in change.comparison.changes}
        for change in changes[:maximum]
        if change.comparison is not None
    ]
    shown = {metric for one in texts for metric in without_followers(one, one)}
    metrics = sort_metrics(shown)
    rows = [(*metrics, "measurement")]
    rows += [
        (*(one.get(metric, "=") for metric in metrics), label(change.key))
        for change, one in zip(changes, texts, strict=False)
    ]
    lines = align(rows, left=(len(metrics),))
    return [*lines, f"  and {len(changes) - maximum:,} more"] if len(changes) > maximum else lines
