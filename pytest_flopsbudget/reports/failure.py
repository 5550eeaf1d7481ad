"""Explain why a test fails: each broken limit, each regressed metric, and the modules that grew."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.formatting import format_pair, format_percent
from pytest_flopsbudget.quantities.metrics import base_of, metric_of, title_of
from pytest_flopsbudget.reports import details
from pytest_flopsbudget.reports.wording import (
    format_amount,
    format_change,
    format_growth,
    is_estimate,
    mark_estimate,
    update_command,
    visible,
)
from pytest_flopsbudget.results.diff import metrics_to_show, self_values, shape_change
from pytest_flopsbudget.results.folding import fold, unfold, without_peaks
from pytest_flopsbudget.results.limits import Ratio, UnmatchedPattern, Unmeasured, Violation, to_number
from pytest_flopsbudget.results.module_table import unknown_operator_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_flopsbudget.results.comparison import Comparison
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.diff import Diff, ModuleChange
    from pytest_flopsbudget.results.verdict import Verdict

#: The maximum number of rows in each list. If there are more, one further row sums them up.
_MAX_ROWS = 12
_MAX_MODULES = 5
_MAX_IDS = 3

#: Names among the unknown operators that are no operators. No formula can be registered for them.
_NO_OPERATORS = ("higher_order.", "threading.")


def explain(nodeid: str, verdicts: Sequence[Verdict], *, own_failure: bool = False) -> str:
    """Return all reasons why a test's measurements fail; empty if there are none.

    Args:
        nodeid: the test's node id, as typed in the folder where pytest was started.
        verdicts: the test's measurements.
        own_failure: whether the test failed for a reason other than its budget.
    """
    held = _held(verdicts, own_failure=own_failure)
    several = len(verdicts) > 1
    blocks = [
        "\n".join(map(visible, _explain_one(nodeid, verdict, held, label=f"{verdict.name}: " if several else "")))
        for verdict in verdicts
        if verdict.fails
    ]
    return "\n\n".join(blocks)


def explain_one(nodeid: str, verdict: Verdict, verdicts: Sequence[Verdict], *, own_failure: bool) -> str:
    """Return all reasons why one measurement of a test fails. For the arguments, see `explain`."""
    lines = _explain_one(nodeid, verdict, _held(verdicts, own_failure=own_failure), label="")
    return "\n".join(map(visible, lines))


def _explain_one(nodeid: str, verdict: Verdict, held: str, label: str) -> Iterator[str]:
    yield from _limits(verdict, label)
    yield from _reactions(verdict, label)
    yield from run_changes(verdict.comparison)
    yield from details.noisy_latency_lines(verdict)
    if verdict.times > 1:
        yield f"the largest of {verdict.times:,} measurements"
    yield from _reasons(verdict)
    if verdict.diffs:
        yield from what_grew(verdict.diffs)
    else:
        broken = {item.metric for item in verdict.broken if isinstance(item, Violation)}
        for metric in metrics_to_show(broken):
            yield from _largest(verdict.complexity, metric)
    if verdict.failing and verdict.failing != ("unknown operators",):
        yield f"to accept{held}: {update_command(nodeid)}"


def _held(verdicts: Sequence[Verdict], *, own_failure: bool) -> str:
    """Return what the user has to do before an update accepts the test. An update writes only tests that pass."""
    conditions = []
    if any(verdict.broken or verdict.unmatched for verdict in verdicts):
        conditions.append("the limits allow it")
    if any("unknown operators" in verdict.failing for verdict in verdicts):
        conditions.append("each operator has a formula")
    if own_failure:
        conditions.append("the test passes otherwise")
    return f", once {' and '.join(conditions)}" if conditions else ""


def _limits(verdict: Verdict, label: str) -> Iterator[str]:
    for item in verdict.broken:
        yield label + _broken(item)
        yield f"    limit set by {item.source}"
    for pattern in verdict.unmatched:
        yield f"{label}{unmatched_pattern(pattern, verdict.complexity)}"
        yield f"    limit set by {pattern.source}"


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
            return f"of: {item.pattern!r} is no measurement of the test and no module of {complexity.model}{near}"


def _reactions(verdict: Verdict, label: str) -> Iterator[str]:
    """Yield the failures that follow from the project's settings on baselines and unknown operators."""
    changes = verdict.comparison.changes
    if "regressed" in verdict.failing:
        for change in changes:
            if not change.allowed:
                yield f"{label}{change.metric} regressed: {format_change(change.old, change.new, change.metric)}"
    if "new" in verdict.failing:
        yield f'{label}no baseline, and missing-baseline = "fail"'
    if "improved" in verdict.failing or "changed" in verdict.failing:
        for change in filter(attrgetter("judged"), changes):
            words = format_change(change.old, change.new, change.metric)
            yield f"{label}{change.metric} {verdict.comparison.status}: {words}"
        yield '    improved-baseline = "fail" asks for the baseline to follow'
    if "unknown operators" in verdict.failing:
        yield f'{label}operators without a formula, and unknown-operators = "fail"'
        yield from unknown_operators(verdict.complexity)
        yield from formula_hint([verdict.complexity])


def _reasons(verdict: Verdict) -> Iterator[str]:
    """Yield lines on what filled the memory and what bounds the time, if these metrics failed the test."""
    wrong = {item.metric for item in verdict.broken}
    wrong |= {change.metric for change in verdict.comparison.changes if not change.allowed}
    if "peak_memory" in wrong:
        yield from details.peak_lines(verdict.complexity)
    if any(is_estimate(metric) for metric in wrong):
        yield from details.time_lines(verdict.complexity)


def _broken(item: Violation | Unmeasured) -> str:
    what = f"{item.metric}{_part(item)}"
    if isinstance(item, Unmeasured) and base_of(item.metric) == "latency":
        return "latency has a limit, but a watched model is not timed: call flops_budget(model, inputs) of the fixture"
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
            return f"{what} under its limit: {measured} < {limit}{share} ({format_percent(amounts[1], amounts[0])})"
        case "maximum":
            percent = format_percent(amounts[1], amounts[0]) if item.limit else "the limit is 0"
            words = f"{measured} > {limit}{share}, {format_growth(item.excess, item.metric)} ({percent})"
            return f"{what} over its limit: {mark_estimate(words, item.metric)}"


def _part(item: Violation | Unmeasured) -> str:
    if item.operator:
        return f" of {item.operator}"
    return f" of {item.module}" if item.module else f" of the {item.phase} phase" if item.phase else ""


def total_lines(items: Iterable[Violation]) -> Iterator[str]:
    """Yield one line for each limit on the sum over all measurements of a run that is broken, or beyond a warning."""
    for item in items:
        yield f"total of the run: {_broken(item)}, set by {item.source}"


def format_share(share: Ratio) -> str:
    """Return a share as a percentage: "50%"."""
    percent = float(to_number(share) * 100)
    return f"{percent:.4g}%"


def unknown_operators(complexity: Complexity) -> Iterator[str]:
    """Yield one line for each operator that no formula covers."""
    for line in unknown_operator_lines(complexity):
        yield f"    {line}"


def formula_hint(complexities: Iterable[Complexity]) -> Iterator[str]:
    """Yield lines on how to register a formula for the first unknown operator that can have a formula."""
    names = (name for complexity in complexities for name in complexity.unknown_operators)
    name = next((name for name in names if not name.startswith(_NO_OPERATORS)), None)
    if name is None:
        return
    namespace, _, own = name.partition(".")
    yield "to count it, or to declare it free with 0, in conftest.py:"
    yield "    from pytest_flopsbudget import flops_formula"
    yield ""
    yield f'    @flops_formula("{namespace}::{own}")'
    yield f"    def {own}(call):"
    yield "        return 2 * call.first_output.numel()  # FLOPs, 2 per multiply-accumulate"


def signature_changes(comparison: Comparison) -> Iterator[str]:
    """Yield a line if the baseline was measured with another input or another model."""
    if comparison.inputs_changed:
        old, new = comparison.inputs_changed
        yield f"the input changed: {', '.join(old)} -> {', '.join(new)}"
    if comparison.equal_to:
        shown = ", ".join(comparison.equal_to[:_MAX_IDS]) + (", ..." if len(comparison.equal_to) > _MAX_IDS else "")
        before = "model" if comparison.another_model else "input"
        yield f"this id held another {before}; what was measured now is in the baseline as {shown}"
    elif comparison.another_model:
        yield "this id held another model: the modules in the baseline have other types or sizes"


def run_changes(comparison: Comparison) -> Iterator[str]:
    """Yield a line for each difference from the baseline in the input, the model, the execution or the metrics."""
    yield from signature_changes(comparison)
    if comparison.execution_changed:
        yield "the baseline was measured {}, this {}".format(*map(_execution, comparison.execution_changed))
    if comparison.pytorch_changed:
        yield "the baseline was measured with PyTorch {}, this with {}".format(*comparison.pytorch_changed)
    if comparison.backward_changed:
        old_pass, new_pass = ("with" if passed else "without" for passed in comparison.backward_changed)
        yield f"the baseline was measured {old_pass} the backward pass, this {new_pass} it"
    for metric in comparison.vanished:
        yield f"{metric} is in the baseline and was not measured now"


_EXECUTIONS = {"shapes": "on shapes alone", "real": "on real data", "watched": "as the test ran it"}


def _execution(execution: str) -> str:
    return _EXECUTIONS[execution]


def what_grew(differences: Iterable[Diff]) -> Iterator[str]:
    """Yield a line for each module and operator through which a metric changed."""
    for difference in differences:
        if difference.modules:
            yield f"what changed in {difference.metric}, by module:"
            yield from module_rows(difference)
        if difference.operators:
            yield f"what changed in {difference.metric}, by operator:"
            yield from operator_rows(difference)


def module_rows(difference: Diff) -> Iterator[str]:
    """Yield one line for each module that changed. The largest change is first."""
    shown = difference.modules[:_MAX_ROWS]
    for change in shown:
        yield f"    {module_change(change, difference.metric)}"
    rest = difference.modules[_MAX_ROWS:]
    if rest:
        yield f"    and {len(rest):,} more, {format_growth(sum(item.change for item in rest), difference.metric)}"


def module_change(change: ModuleChange, metric: str) -> str:
    """Describe the change of one module: "layer4.2.conv2: Conv2d 3x3 -> 5x5, +411 MFLOPs"."""
    times = f" (x{change.count})" if change.count > 1 else ""
    cost = format_growth(change.change, metric)
    path = change.path or "the model itself"
    if change.kind == "renamed":
        return f"{path}{times}: was {change.old_path}, {cost}"
    side = change.new or change.old
    if side is None or change.old is None or change.new is None:
        word = "new" if change.kind == "added" else "removed"
        return f"{path}{times}: {word} {_words(side.type, side.shape) if side else ''}, {cost}"
    what = [change.new.type]
    old_shape, new_shape = shape_change(change.old.shape, change.new.shape)
    if change.old.type != change.new.type:
        what = [f"{_words(change.old.type, change.old.shape)} -> {_words(change.new.type, change.new.shape)}"]
    elif old_shape != new_shape:
        what = [f"{change.new.type} {old_shape or 'none'} -> {new_shape or 'none'}"]
    if change.old.calls != change.new.calls:
        what.append(f"calls {change.old.calls} -> {change.new.calls}")
    return f"{path}{times}: {', '.join(what)}, {cost}"


def _words(kind: str, shape: str) -> str:
    return f"{kind} {shape}" if shape else kind


def operator_rows(difference: Diff) -> Iterator[str]:
    """Yield one line for each operator that changed. The largest change is first."""
    for change in difference.operators[:_MAX_ROWS]:
        calls = f", calls {change.old_calls:,} -> {change.new_calls:,}" if change.old_calls != change.new_calls else ""
        yield f"    {change.operator}: {format_growth(change.new - change.old, difference.metric)}{calls}"
    rest = difference.operators[_MAX_ROWS:]
    if rest:
        yield f"    and {len(rest):,} more"


def _largest(complexity: Complexity, metric: str) -> Iterator[str]:
    """Yield a heading, and a line for each module with a large self value (without child modules) of the metric."""
    row = metric_of(metric)
    if row.over or row.aggregation == "whole":
        return
    modules = complexity.modules if row.aggregation == "peak" else without_peaks(complexity.modules)
    own = self_values(modules, metric)
    rows = [
        (sum(own[path] for path in unfold({folded: module})), folded, module)
        for folded, module in fold(modules).items()
    ]
    rows = sorted((row for row in rows if row[0] > 0), key=lambda row: -row[0])
    if rows:
        yield f"where the {title_of(metric)} {'are' if row.title.endswith('s') else 'is'}:"
    for value, folded, module in rows[:_MAX_MODULES]:
        yield f"    {folded or 'the model itself'}: {_words(module.type, module.shape)}, {format_amount(value, metric)}"
