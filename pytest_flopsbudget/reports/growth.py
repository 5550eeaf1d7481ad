"""Describe how a measurement differs from its baseline: another input, another run, and what grew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.reports.law_changes import range_change
from pytest_flopsbudget.reports.wording import format_growth
from pytest_flopsbudget.results.diff import shape_change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_flopsbudget.results.comparison import Comparison
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.diff import Diff, ModuleChange
    from pytest_flopsbudget.results.edits import Edit


#: The maximum number of rows in each list. If there are more, one further row sums them up.
_MAX_ROWS = 12
_MAX_IDS = 3


def signature_changes(comparison: Comparison) -> Iterator[str]:
    """Yield a line if the baseline was measured with other sizes, with another input, or if it is of another model."""
    if comparison.range_changed:
        yield f"the range of sizes changed: {range_change(comparison)}; laws are compared only for sizes that both have"
    if comparison.inputs_changed:
        old, new = comparison.inputs_changed
        yield f"the input changed: {', '.join(old)} -> {', '.join(new)}"
    yield from model_changes(comparison)


def model_changes(comparison: Comparison) -> Iterator[str]:
    """Yield a line if the baseline with this id is of another model."""
    if comparison.equal_to:
        shown = ", ".join(comparison.equal_to[:_MAX_IDS]) + (", ..." if len(comparison.equal_to) > _MAX_IDS else "")
        before = "model" if comparison.another_model else "input"
        yield f"this id held another {before}; what was measured now is in the baseline as {shown}"
    elif comparison.another_model:
        yield "this id held another model: the modules in the baseline have other types or sizes"


def other_model(comparison: Comparison, edits: Iterable[Edit], complexity: Complexity) -> Iterator[str]:
    """Yield a line if the id most likely moved to another model.

    A few edits are a change of one model, and so is one changed setting of the same kind of module.
    """
    edits = [*edits]
    edited = sum(edit.count for edit in edits)
    sized = sum(bool(module.shape) for module in complexity.modules.values())
    one_change = len(edits) == 1 and edits[0].old is not None and edits[0].new is not None
    if comparison.equal_to or not edited or (2 * edited >= sized and not one_change):
        yield from model_changes(comparison)


def run_changes(comparison: Comparison) -> Iterator[str]:
    """Yield a line for each difference from the baseline in the input, the model, the execution or the metrics."""
    yield from signature_changes(comparison)
    yield from execution_changes(comparison)


def execution_changes(comparison: Comparison) -> Iterator[str]:
    """Yield a line for each difference from the baseline in the execution or in the metrics."""
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
