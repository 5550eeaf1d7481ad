"""The tables of the page about one measurement: phases, modules and operators with their shares."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from pytest_flopsbudget.quantities.metrics import key_for
from pytest_flopsbudget.reports.cells import amount, percent
from pytest_flopsbudget.reports.terminal.screen import start_of
from pytest_flopsbudget.reports.terminal.table import MIN_ROOM, Column, ElasticColumn, build_table, drop_columns
from pytest_flopsbudget.results.module_tree import share_of_total, weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.table import Table

    from pytest_flopsbudget.reports.terminal.screen import Screen
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.module_tree import ModuleGroup


#: The approximate number of rows in the table of modules, and the maximum number of rows in the table of operators.
_MAX_ROWS = 18
#: The maximum number of rows for the children of one module.
_MAX_CHILDREN = 8
#: A module whose share of the total is smaller than this gets no row.
_MIN_SHARE = Fraction(1, 100)
#: The number of characters that the first column keeps as long as other columns can be left out.
_ROOM = 26


class _Row(NamedTuple):
    """A row of the table of modules."""

    name: str
    #: The class of the module.
    kind: str
    metrics: Mapping[str, int]


class _Branch:
    """A module in the table, with its children if the table shows them."""

    def __init__(self, group: ModuleGroup, weighs: Fraction, above: str) -> None:
        # If an only child does all the work of a module, the two modules share one row.
        while len(group.children) == 1 and not any(group.self_metrics.values()):
            (group,) = group.children
        self.place = group
        self.weighs = weighs
        self.name = group.path[len(above) + 1 :] if above else group.path
        self.below: list[_Branch] = []
        #: Rows that stand for no module: the self costs of this module, and the sum of its children that are too small
        #: for a row.
        self.besides: list[_Row] = []

    def rows(self, depth: int = 0) -> Iterator[_Row]:
        """Yield the row of the module, then the rows of its children."""
        name = f"{'  ' * depth}{self.name or '(model)'}"
        yield _Row(name, self.place.module.type, self.place.total_metrics)
        for branch in self.below:
            yield from branch.rows(depth + 1)
        for row in self.besides:
            yield row._replace(name=f"{'  ' * (depth + 1)}{row.name}")


def phases(complexity: Complexity, device: str | None, screen: Screen) -> Iterator[Table]:
    """Yield a table with one row for each phase. If there is only one phase, yield nothing."""
    if complexity.phases:
        parts = [phase.metrics for phase in complexity.phases.values()]
        yield _table("phase", list(complexity.phases), _shares(parts, complexity, device), screen)


def modules(complexity: Complexity, root: ModuleGroup, device: str | None, screen: Screen) -> Table:
    """Return the table of modules, a tree. The children of a module are shown if the module does much of the work.

    Args:
        complexity: the measurement.
        root: the module tree of the measurement.
        device: the device whose time decides which modules matter most; None without estimated times.
        screen: the terminal that will show the table.
    """
    rows = [*_opened(root, complexity.metrics, device).rows()]
    widest = max(MIN_ROOM, screen.width // 4)
    columns = [
        Column("class", [start_of(screen.safe(row.kind), widest, screen) for row in rows], "left", "crop", 5),
        *_shares([row.metrics for row in rows], complexity, device, params=True),
    ]
    return _table("module", [row.name for row in rows], columns, screen)


def operators(complexity: Complexity, device: str | None, screen: Screen) -> Iterator[Table]:
    """Yield a table with one row for each operator, the most expensive first; nothing if no operator has costs."""
    total = complexity.metrics
    # A measurement does not store a metric of an operator if it is 0.
    found = {name: (one.calls, _sum((one.metrics,), total)) for name, one in complexity.operators.items()}
    weighed = [(weight(metrics, total, device), name, metrics) for name, (_, metrics) in found.items()]
    weighed = sorted((one for one in weighed if one[0]), key=lambda one: -one[0])
    shown, left = weighed[:_MAX_ROWS], weighed[_MAX_ROWS:]
    if not shown:
        return
    names = [name for _, name, _ in shown]
    parts = [metrics for *_, metrics in shown]
    calls = [found[name][0] for name in names]
    if left:
        names.append(f"({len(left)} more)")
        parts.append(_sum((metrics for *_, metrics in left), total))
        calls.append(sum(found[name][0] for _, name, _ in left))
    columns = [
        Column("calls", [f"{number:,}" for number in calls], drop_order=3, overflow="crop"),
        _amounts("total FLOPs", "total_flops", parts, 2),
        _amounts("bytes", "memory_traffic", parts, 2),
        _amounts("FLOPs/B", "arithmetic_intensity", parts, 4),
    ]
    if device is not None:
        key = key_for("time", device)
        columns.append(_amounts("least time", key, parts, 1))
        columns.append(Column("time", [percent(share_of_total(one, total, key)) for one in parts], overflow="crop"))
    yield _table("operator", names, [column for column in columns if any(column.cells)], screen)


def _opened(root: ModuleGroup, total: Mapping[str, int], device: str | None) -> _Branch:
    """Return the branch of ``root``. Children of the most expensive branches are added until there are enough rows."""
    top = _Branch(root, Fraction(1), "")
    closed, rows = [top], 1
    while closed and rows < _MAX_ROWS:
        branch = max(closed, key=lambda one: one.weighs)
        closed.remove(branch)
        _open(branch, total, device)
        closed += branch.below
        rows += len(branch.below) + len(branch.besides)
    return top


def _open(branch: _Branch, total: Mapping[str, int], device: str | None) -> None:
    group = branch.place
    weighed = sorted(
        ((weight(child.total_metrics, total, device), child) for child in group.children), key=lambda one: -one[0]
    )
    shown = [one for one in weighed[:_MAX_CHILDREN] if one[0] >= _MIN_SHARE]
    left = [child for _, child in weighed[len(shown) :] if any(child.total_metrics.values())]
    branch.below = [_Branch(child, matters, group.path) for matters, child in shown]
    if shown and weight(group.self_metrics, total, device) >= _MIN_SHARE:
        branch.besides.append(_Row("(itself)", "", group.self_metrics))
    if shown and left:
        number = sum(child.count // group.count for child in left)
        branch.besides.append(_Row(f"({number:,} smaller)", "", _sum((child.total_metrics for child in left), total)))


def _sum(parts: Iterable[Mapping[str, int]], keys: Iterable[str]) -> dict[str, int]:
    """Return key → the sum of the values in ``parts``; 0 if no part has the key."""
    metrics = dict.fromkeys(keys, 0)
    for part in parts:
        for key, value in part.items():
            metrics[key] = metrics.get(key, 0) + value
    return metrics


def _amounts(head: str, key: str, parts: Sequence[Mapping[str, int]], drop_order: int) -> Column:
    """Return a column with the metric's value for each row. The head of the column has the unit."""
    cells = [re.sub("FLOPs.*", "", amount(metrics, key)).rstrip() for metrics in parts]
    return Column(head, cells, overflow="crop", drop_order=drop_order)


def _shares(
    parts: Sequence[Mapping[str, int]], complexity: Complexity, device: str | None, *, params: bool = False
) -> list[Column]:
    keys = {"total FLOPs": ("total_flops", 1), "params": ("params", 3), "bytes": ("memory_traffic", 2)}
    if not params:
        del keys["params"]
    if device is not None:
        keys["time"] = (key_for("time", device), 0)
    columns = []
    for head, (key, drop_order) in keys.items():
        cells = [percent(share_of_total(metrics, complexity.metrics, key)) for metrics in parts]
        columns.append(Column(head, cells, overflow="crop", drop_order=drop_order))
    return [column for column in columns if any(column.cells)]


def _table(head: str, names: Sequence[str], columns: Sequence[Column], screen: Screen) -> Table:
    first = ElasticColumn(head, [screen.safe(name) for name in names], start_of, overflow="crop", shrinks=True)
    return build_table(first, drop_columns(columns, _ROOM, screen), screen)
