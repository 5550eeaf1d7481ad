"""The table of a measurement's modules, and the lines below it."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.formatting import bound_sign, format_value
from pytest_flopsbudget.quantities.metrics import (
    METRICS,
    Amount,
    base_of,
    devices_in,
    is_measured,
    is_remarkable,
    key_for,
    measured_value,
    metric_of,
    title_of,
)
from pytest_flopsbudget.results.call_arguments import check_metrics, check_whole_number
from pytest_flopsbudget.results.folding import fold, is_number, unfold, without_peaks
from pytest_flopsbudget.results.module_tree import build_module_tree
from pytest_flopsbudget.results.table_text import Branch, Column, TreeTable
from pytest_flopsbudget.safe_text import pluralize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.results.data import ComplexityData, Module
    from pytest_flopsbudget.results.module_tree import ModuleGroup

#: The metrics of a table if the caller names none.
_USUAL = ("flops", "params", "memory_traffic")
#: Heads that are shorter than the titles of the metrics.
_HEADS = {"memory_traffic": "traffic"}
#: If the caller gives no depth, a table has as many whole levels as fit into this number of rows, but at least one.
MAX_ROWS = 40
#: Classes that only hold other modules or parameters, and that are never called.
_CONTAINERS = frozenset({"ModuleDict", "ModuleList", "ParameterDict", "ParameterList"})
#: The maximum number of names in a remark.
_MAX_NAMES = 3
_EXECUTIONS = {
    "shapes": "counted on shapes",
    "real": "ran on data",
    "watched": "watched, as the test ran it",
}


class Node:
    """A row of the table: a group of modules, and the rows below it."""

    def __init__(self, group: ModuleGroup, above: str, places: Mapping[str, int]) -> None:
        # A container that is not called and has one child group shares the row of this group: "h.{0-11}".
        while group.path and not group.calls and len(group.children) == 1 and not any(group.self_metrics.values()):
            (group,) = group.children
        self.group = group
        self.name = group.path[len(above) + 1 :] if above else group.path
        names = [child.members[0].rpartition(".")[2] for child in group.children]
        #: The groups directly below, in the order of the model. The groups of a sequence are in their natural order.
        self.children = (
            group.children
            if all(map(is_number, names))
            else sorted(group.children, key=lambda child: places[child.members[0]])
        )


def module_table(
    complexity: ComplexityData, metrics: Sequence[str] | None, depth: int | None, max_rows: int | None = None
) -> TreeTable:
    """Return the table of a measurement.

    Args:
        complexity: the measurement.
        metrics: the keys of the metrics that get a column; None for FLOPs, params and memory traffic.
        depth: the number of levels below the model; None for all levels.
        max_rows: if ``depth`` is None, levels are left out until the table has at most this number of rows, but one
            level is kept.

    Raises:
        UsageError: there is no such metric, the metric was not measured, or ``depth`` is no number of levels.
    """
    keys = checked_keys(complexity, metrics)
    check_whole_number("depth", depth, "the number of levels below the model")
    rows = tree_rows(build_module_tree(complexity), {path: place for place, path in enumerate(complexity.modules)})
    # How many rows each level has; level 0 is the model.
    sizes = Counter(len(branch.lasts) for branch, _ in rows)
    levels = max(sizes)
    shown = levels if depth is None else min(depth, levels)
    if depth is None and max_rows is not None:
        fitting = (
            level
            for level, total in enumerate(accumulate(sizes[level] for level in range(levels + 1)))
            if total <= max_rows
        )
        shown = min(levels, max(1, *fitting))
    kept = [row for row in rows if len(row[0].lasts) <= shown]
    groups = [group for _, group in kept]
    columns = [
        Column("class", [class_of(group) for group in groups], is_text=True),
        Column(
            "output",
            [_outputs(group, complexity) for group in groups],
            is_text=True,
            has_signs=True,
            drop_order=len(keys) + 1,
        ),
        Column("calls", [_calls(group) for group in groups], drop_order=len(keys) + 2),
        *(
            Column(head_of(key), [cell(value_of(group, key, complexity), key) for group in groups], drop_order=place)
            for place, key in enumerate(keys)
        ),
    ]
    hidden = len(rows) - len(kept)
    deeper = f"{shown} of {pluralize(levels, 'level')} shown; table() shows all {pluralize(len(rows), 'row')}"
    return TreeTable(
        title=title(complexity),
        head="module",
        branches=[branch for branch, _ in kept],
        columns=[column for column in columns if column.head != "output" or any(column.cells)],
        totals=[*total_cells(complexity), *time_cells(complexity)],
        remarks=[*remarks(complexity), *([deeper] if hidden else [])],
    )


def title(complexity: ComplexityData) -> str:
    """Return a line that names the model, its inputs and the way in which it was counted."""
    inputs = ", ".join(complexity.inputs) or "no tensors"
    *first, last = [phase for phase in complexity.phases if complexity.work_of(phase)] or ["forward"]
    how = f"{', '.join(first)} and {last}" if first else last
    return f"{complexity.model} of {inputs}: {how}, {_EXECUTIONS[complexity.execution]}"


def one_line(complexity: ComplexityData) -> str:
    """Return the most important totals on one line, for a ``repr``."""
    totals = {key: measured_value(complexity.metrics, key) for key in ("flops", "params")}
    texts = [cell_with_unit(value, key) for key, value in totals.items() if value is not None]
    return ", ".join(texts)


def cell_with_unit(value: Amount, key: str) -> str:
    """Return the text of a value with its unit: "8.178 GFLOPs", "25.56 M params"."""
    row = metric_of(key)
    return f"{format_value(value, row)} {row.title}" if row.unit == "count" else format_value(value, row)


def total_cells(complexity: ComplexityData) -> Iterator[tuple[str, str]]:
    """Yield (title, value) of each metric of the whole model. Most metrics are left out if they are 0."""
    for key, row in METRICS.items():
        value = measured_value(complexity.metrics, key)
        if row.per is not None or value is None or not (value or key in {"flops", "params"}):
            continue
        # If all parameters are trainable, one cell is enough.
        is_shown = key == "trainable_params" and value == complexity.metrics.get("params")
        if not is_shown and is_remarkable(complexity.metrics, key):
            yield row.title, format_value(value, row)


def time_cells(complexity: ComplexityData) -> Iterator[tuple[str, str]]:
    """Yield (title, value) of the estimated time on each device, and of the measured latency."""
    keys = [key_for("time", device) for device in devices_in(complexity.metrics)]
    for key in (*keys, *(key for key in complexity.metrics if base_of(key) == "latency")):
        value = measured_value(complexity.metrics, key)
        if value is not None:
            yield title_of(key), cell(value, key)


def remarks(complexity: ComplexityData) -> Iterator[str]:
    """Yield sentences on what the numbers do not include, and on modules that were not called."""
    for line in unknown_operator_lines(complexity):
        yield f"not counted: {line}"
    yield from never_called_line(complexity)
    yield from complexity.notes


def never_called_line(complexity: ComplexityData) -> Iterator[str]:
    """Yield a sentence on the modules that were not called, if there are any."""
    never = never_called(complexity.modules)
    if never is None:
        yield "no module was called"
    elif never:
        yield f"never called: {_name_some(never)}"


def unknown_operator_lines(complexity: ComplexityData) -> Iterator[str]:
    """Yield one line for each operator that no formula covers."""
    for name, operator in complexity.unknown_operators.items():
        places = ", ".join(path or complexity.model for path in operator.modules[:_MAX_NAMES])
        more = ", ..." if len(operator.modules) > _MAX_NAMES else ""
        yield f"{name}: {pluralize(operator.calls, 'call')} in {places}{more}"


def never_called(modules: Mapping[str, Module]) -> dict[str, Module] | None:
    """Return folded path → module for the topmost modules that were not called, those with most parameters first.

    A container like ``torch.nn.ModuleList`` is in the result if it holds modules and none of them was called. If
    there are modules below the model and neither they nor the model were called, return None.
    """
    called: set[str] = set()
    for path, module in modules.items():
        above = path
        while module.calls and above not in called:
            called.add(above)
            above = above.rpartition(".")[0]
    if not called and len(modules) > 1:
        return None
    idle = {path: module for path, module in modules.items() if path and path not in called}
    topmost = {
        path: module
        for path, module in without_peaks(idle).items()
        if path.rpartition(".")[0] not in idle and not _is_empty(module)
    }
    folded = fold(topmost)
    return {path: folded[path] for path in sorted(folded, key=lambda path: -folded[path].metrics.get("params", 0))}


def _is_empty(module: Module) -> bool:
    return module.type in _CONTAINERS and not (module.type.startswith("Module") and module.metrics.get("params"))


def _name_some(folded: Mapping[str, Module]) -> str:
    """Return the first paths with their classes, and the number of modules at all other paths."""
    named = list(folded.items())
    words = [f"{path} ({module.type})" for path, module in named[:_MAX_NAMES]]
    left = sum(len(unfold({path: module})) for path, module in named[_MAX_NAMES:])
    return ", ".join(words) + (f" and {left:,} more" if left else "")


def checked_keys(complexity: ComplexityData, metrics: Sequence[str] | None) -> list[str]:
    """Return the metrics that get columns.

    Raises:
        UsageError: ``metrics`` is no list of texts, there is no such metric, or it was not measured.
    """
    if metrics is None:
        # A model without products shows its other arithmetic instead.
        work = "flops" if complexity.metrics.get("flops") or "other_flops" not in complexity.metrics else "total_flops"
        return [key for key in (work, *_USUAL[1:]) if is_measured(complexity.metrics, key)]
    return check_metrics(metrics, complexity.metrics)


def tree_rows(root: ModuleGroup, places: Mapping[str, int]) -> list[tuple[Branch, ModuleGroup]]:
    """Return (place in the tree, group) for each row.

    Args:
        root: the group of the model.
        places: path → the position of the module in the order of the model's modules.
    """
    rows = [(Branch("(model)"), root)]
    waiting = _below(Node(root, "", places), (), places)
    while waiting:
        node, lasts = waiting.pop()
        rows.append((Branch(node.name, lasts), node.group))
        waiting += _below(node, lasts, places)
    return rows


def _below(node: Node, lasts: tuple[bool, ...], places: Mapping[str, int]) -> list[tuple[Node, tuple[bool, ...]]]:
    """Return the rows directly below ``node``, the last one first, each with the ``lasts`` of its `Branch`."""
    children = [Node(child, node.group.path, places) for child in node.children]
    return [(child, (*lasts, child is children[-1])) for child in reversed(children)]


def value_of(group: ModuleGroup, key: str, complexity: ComplexityData) -> Amount | None:
    """Return the metric's value for a group: the sum over its modules, or the maximum of their peaks.

    Return None if the modules have no value.
    """
    if not group.path:
        return measured_value(complexity.metrics, key)
    if metric_of(key).aggregation == "peak":
        peaks = [measured_value(complexity.modules[path].metrics, key) for path in group.members]
        return max((peak for peak in peaks if peak is not None), default=None)
    return None if metric_of(key).aggregation == "whole" else measured_value(group.total_metrics, key)


def cell(value: Amount | None, key: str) -> str:
    """Return the text of a value. Its unit is left out if it is in the head of the column: "8.178 G"."""
    if value is None:
        return ""
    row = metric_of(key)
    text = without_unit(format_value(value, row), key)
    return f"{bound_sign(row)}{text}" if row.per == "device" else text


def without_unit(text: str, key: str) -> str:
    """Return the text of a value without its unit, if the unit is in the title of the metric: "8.178 G"."""
    unit = metric_of(key).unit
    return text.removesuffix(unit).rstrip() if unit in {"FLOPs", "MACs"} else text


def head_of(key: str) -> str:
    """Return the head of a metric's column."""
    return _HEADS.get(base_of(key), title_of(key))


def class_of(group: ModuleGroup) -> str:
    """Return the class of a group's modules, and their number: "Block x12"."""
    return f"{group.module.type} x{group.count:,}" if group.count > 1 else group.module.type


def _calls(group: ModuleGroup) -> str:
    """Return the number of calls of all modules in the group; empty for a module that only holds called modules."""
    return "" if not group.calls and any(_called(child) for child in group.children) else f"{group.calls:,}"


def _called(group: ModuleGroup) -> bool:
    waiting = [group]
    while waiting:
        one = waiting.pop()
        if one.calls:
            return True
        waiting += one.children
    return False


def _outputs(group: ModuleGroup, complexity: ComplexityData) -> str:
    """Return the shape of the first tensor that the modules return, and the number of the other tensors."""
    found = {complexity.modules[path].outputs for path in group.members if path in complexity.modules}
    if len(found) != 1:
        return "various" if found else ""
    return shape_text(found.pop())


def shape_text(outputs: Iterable[str]) -> str:
    """Return the first shape in ``outputs``, and the number of the other shapes: "1x64x56x56 +2"."""
    texts = list(outputs)
    if not texts:
        return ""
    sizes = texts[0].partition("[")[2].removesuffix("]").replace(", ", "x") or "scalar"
    return sizes if len(texts) == 1 else f"{sizes} +{len(texts) - 1}"
