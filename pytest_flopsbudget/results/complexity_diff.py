"""`compare`: the difference between two measurements, as a table of the modules that changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import msgspec

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.formatting import format_pair, format_percent
from pytest_flopsbudget.quantities.metrics import Amount, implied_count, measured_value, metric_of, parts_of, title_of
from pytest_flopsbudget.results.alignment import aligned
from pytest_flopsbudget.results.call_arguments import WIDTH, check_whole_number
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.diff import metrics_to_show, renamed_paths, shape_change
from pytest_flopsbudget.results.module_table import (
    checked_keys,
    class_of,
    head_of,
    never_called_line,
    title,
    tree_rows,
    unknown_operator_lines,
    without_unit,
)
from pytest_flopsbudget.results.module_tree import ADDING, ModuleGroup, group_modules
from pytest_flopsbudget.results.table_html import to_html
from pytest_flopsbudget.results.table_text import Column, TreeTable, can_print_signs, lay_out, printed_width
from pytest_flopsbudget.results.verdict import Measurement
from pytest_flopsbudget.safe_text import pluralize

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

#: The metrics of a table if the caller names none. Those that changed are shown; `total_flops` only without `flops`.
_USUAL = ("flops", "total_flops", "params", "memory_traffic")


@dataclass(frozen=True)
class _Pair:
    """A module before and now; None on the side where it does not exist."""

    old: Module | None
    new: Module | None
    #: The path before, if the module is the topmost one of a renamed subtree.
    old_path: str = ""

    def values(self, key: str) -> tuple[Amount | None, Amount | None]:
        """Return the metric's value before and now; 0 where the module does not exist, None where it is unknown."""
        old, new = (0 if one is None else measured_value(one.metrics, key) for one in (self.old, self.new))
        return old, new

    def kind(self) -> str:
        """Return the class: "ReLU", or "ReLU -> GELU"."""
        return " -> ".join(dict.fromkeys(one.type for one in (self.old, self.new) if one is not None))

    def what(self) -> str:
        """Return what changed, other than the class and the metrics: "3x3 -> 5x5", "2 -> 3 calls", "added"."""
        old, new = self.old, self.new
        if old is None:
            return "added"
        if new is None:
            return "removed"
        changes = [f"was {self.old_path}"] if self.old_path else []
        # Two classes rarely have settings that can be compared.
        if old.shape != new.shape and (old.type == new.type or (old.shape and new.shape)):
            changes.append(" -> ".join(text or "(none)" for text in shape_change(old.shape, new.shape)))
        if old.calls != new.calls:
            changes.append(f"{old.calls:,} -> {pluralize(new.calls, 'call')}")
        return "; ".join(changes)

    def is_changed(self, keys: Collection[str]) -> bool:
        """Return whether the class, the settings, the calls or one of the metrics ``keys`` changed."""
        other_class = self.old is not None and self.new is not None and self.old.type != self.new.type
        return other_class or bool(self.what()) or any(old != new for old, new in map(self.values, keys))


class ComplexityDiff(msgspec.Struct, frozen=True, kw_only=True):
    """The difference between two measurements. ``print`` shows it as a table of the modules that changed."""

    #: The measurement before the change.
    old: Complexity
    #: The measurement after the change.
    new: Complexity

    def table(self, *, metrics: Sequence[str] | None = None, width: int | None = None) -> str:
        """Return the modules that changed as a table, with each metric before and now.

        Equal changes of equal siblings share a row, which has their sums. Of a subtree that was added, removed or
        renamed, only the topmost module is shown.

        Args:
            metrics: the keys of the metrics to show; None for those of FLOPs, params and memory traffic that changed.
            width: the maximum number of characters in a line; None for no maximum. In a narrow table, names are
                shortened in the middle, and columns are left out.

        Raises:
            UsageError: there is no such metric, one of the measurements does not have it, or an argument has a type or
                value that is not allowed.
        """
        check_whole_number("width", width, WIDTH, least=1)
        return "\n".join(lay_out(_table(self, metrics), width, signs=can_print_signs()))

    def to_dict(self) -> dict[str, Any]:
        """Return the totals and the modules that differ, as dicts, lists, texts and numbers.

        "totals" has metric → {"before": value, "now": value}. "modules" has path → {"before": module, "now": module};
        a module that does not exist is None. A renamed module is at its new path. If a removed layer of a list has a
        number that another layer has now, " (before)" follows its name.
        """
        both = _of_both(self.old, self.new)
        keys = list(both)
        found = {
            "totals": {key: {"before": before, "now": now} for key, (before, now) in both.items()},
            "modules": {
                path: {"before": msgspec.to_builtins(pair.old), "now": msgspec.to_builtins(pair.new)}
                for path, pair in _pairs(self).items()
                if pair.is_changed(keys)
            },
        }
        return cast("dict[str, Any]", json.loads(json.dumps(found)))

    def __str__(self) -> str:
        return self.table(width=printed_width())

    def __repr__(self) -> str:
        return f"<ComplexityDiff of {self.old!r} and {self.new!r}>"

    def _repr_html_(self) -> str:
        return to_html(_table(self, None))


def compare(old: Complexity | Measurement, new: Complexity | Measurement) -> ComplexityDiff:
    """Compare two measurements: of two models, or of one model before and after a change.

    Args:
        old: the measurement before the change, or of the first model.
        new: the measurement after the change, or of the second model.

    Raises:
        UsageError: an argument is no measurement.
    """
    return ComplexityDiff(old=_complexity_of(old), new=_complexity_of(new))


def _complexity_of(side: object) -> Complexity:
    complexity = side.complexity if isinstance(side, Measurement) else side
    if not isinstance(complexity, Complexity):
        raise UsageError(
            f"compare(old, new): a value of type {type(side).__name__} is no measurement; pass what measure() returned"
        )
    return complexity


def _pairs(diff: ComplexityDiff) -> dict[str, _Pair]:
    """Return path → the module on both sides: all modules of ``new`` in their order, then those that were removed.

    In lists of modules that only gained and lost children, equal children are a pair. If another module has the path of
    a removed one now, the removed one has `BEFORE` at the end of its name.
    """
    old, new = aligned(diff.old.modules, diff.new.modules), diff.new.modules
    renamed = renamed_paths(old, new)
    sources = {path: source for source, path in renamed.items()}
    pairs = {}
    for path, module in new.items():
        source = sources.get(path, path)
        is_top = source != path and sources.get(_parent(path)) != _parent(source)
        pairs[path] = _Pair(old.get(source), module, source if is_top else "")
    pairs |= {path: _Pair(module, None) for path, module in old.items() if path not in new and path not in renamed}
    return pairs


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _changed_paths(pairs: Mapping[str, _Pair], keys: Collection[str]) -> set[str]:
    """Return the paths of the modules that changed, and of all modules above them."""
    found = {""}
    for path, pair in pairs.items():
        if pair.is_changed(keys):
            above = path
            while above not in found:
                found.add(above)
                above = _parent(above)
    return found


def _changed_tree(pairs: Mapping[str, _Pair], paths: Collection[str], keys: Collection[str]) -> ModuleGroup:
    """Return the tree of the modules at ``paths``, without the modules inside of added and removed ones.

    Siblings are one group if their classes, settings and metrics ``keys`` are equal before and equal now.
    """
    parts = {part for key in keys for part in (*parts_of(key), *metric_of(key).over)}
    combined = {}
    for path, pair in pairs.items():
        above = pairs.get(_parent(path)) if path else None
        is_inside = above is not None and (
            (pair.old is None and above.old is None) or (pair.new is None and above.new is None)
        )
        if path in paths and not is_inside:
            sides = {side: module for side, module in (("old", pair.old), ("new", pair.new)) if module is not None}
            combined[path] = Module(
                type=pair.kind(),
                shape=pair.what(),
                calls=sum(module.calls for module in sides.values()),
                metrics={
                    f"{side} {part}": value
                    for side, module in sides.items()
                    for part in sorted(parts)
                    if (value := implied_count(module.metrics, part)) is not None
                },
            )
    return group_modules(combined, ())


def _table(diff: ComplexityDiff, metrics: Sequence[str] | None) -> TreeTable:
    old, new = diff.old, diff.new
    pairs = _pairs(diff) | {"": _Pair(_root(old), _root(new))}
    keys = _worth_showing(pairs) if metrics is None else checked_keys(new, checked_keys(old, metrics))
    changed = _changed_paths(pairs, keys)
    rows = tree_rows(_changed_tree(pairs, changed, keys), {path: place for place, path in enumerate(pairs)})
    groups = [group for _, group in rows]
    columns = [
        Column("class", [class_of(group) for group in groups], is_text=True, drop_order=2),
        Column("what changed", [pairs[group.members[0]].what() for group in groups], is_text=True, drop_order=1),
    ]
    for place, key in enumerate(keys):
        # Columns of the first metric stay; those of other metrics are left out first.
        columns += _metric_columns(key, [_values(group, pairs, key) for group in groups], place and place + 2)
    return TreeTable(
        title=_title(old, new),
        head="module",
        branches=[branch for branch, _ in rows],
        columns=[column for column in columns if any(column.cells)],
        totals=list(_totals(old, new)),
        remarks=list(_remarks(diff, len(pairs) - len(changed), found=len(rows) > 1)),
    )


def _root(complexity: Complexity) -> Module:
    """Return the model as a module that has the metrics of the whole measurement."""
    root = complexity.modules.get("", Module(type=complexity.model, metrics={}))
    return msgspec.structs.replace(root, metrics=complexity.metrics)


def _worth_showing(pairs: Mapping[str, _Pair]) -> list[str]:
    """Return the usual metrics that changed in some module; if there are none, return the usual metrics."""
    root = pairs[""]
    measured = [key for key in _USUAL if None not in root.values(key)]
    changed = [key for key in measured if any(old != new for old, new in (pair.values(key) for pair in pairs.values()))]
    if "flops" in changed:
        changed = [key for key in changed if key != "total_flops"]
    return changed or [key for key in measured if key != "total_flops"]


def _values(group: ModuleGroup, pairs: Mapping[str, _Pair], key: str) -> tuple[Amount | None, Amount | None]:
    """Return the sums over the group before and now. Peaks and ratios of equal modules are not summed."""
    old, new = pairs[group.members[0]].values(key)
    times = group.count if metric_of(key).aggregation in ADDING else 1
    return None if old is None else times * old, None if new is None else times * new


def _metric_columns(
    key: str, values: Sequence[tuple[Amount | None, Amount | None]], drop_order: int
) -> Iterator[Column]:
    pairs = [("", "") if old is None or new is None else format_pair(old, new, metric_of(key)) for old, new in values]
    head = head_of(key)
    yield Column(f"{head} before", [without_unit(old, key) for old, _ in pairs], drop_order=drop_order)
    yield Column("now", [without_unit(new, key) for _, new in pairs], drop_order=drop_order)
    changes = [
        "" if old is None or new is None else "=" if old == new else format_percent(old, new) for old, new in values
    ]
    yield Column("change", changes, drop_order=drop_order)


def _title(old: Complexity, new: Complexity) -> str:
    return title(new) if title(old) == title(new) else f"before: {title(old)}; now: {title(new)}"


def _totals(old: Complexity, new: Complexity) -> Iterator[tuple[str, str]]:
    """Yield (title, text) for each stored metric of the whole model that differs, as `metrics_to_show` selects them."""
    both = _of_both(old, new)
    for key in metrics_to_show({key for key, (before, now) in both.items() if before != now}):
        before, now = both[key]
        texts = " -> ".join(format_pair(before, now, metric_of(key)))
        yield title_of(key), f"{texts} ({format_percent(before, now)})"


def _of_both(old: Complexity, new: Complexity) -> dict[str, tuple[int, int]]:
    """Return metric → its values before and now, for the stored metrics of the whole model that both have."""
    found = {}
    for key in dict.fromkeys((*old.metrics, *new.metrics)):
        before, now = implied_count(old.metrics, key), implied_count(new.metrics, key)
        if before is not None and now is not None:
            found[key] = before, now
    return found


def _remarks(diff: ComplexityDiff, unchanged: int, *, found: bool) -> Iterator[str]:
    if not found:
        yield "no module changed"
    elif unchanged:
        yield f"{pluralize(unchanged, 'unchanged module')} not shown"
    for word, side in (("before", diff.old), ("now", diff.new)):
        for line in unknown_operator_lines(side):
            yield f"not counted {word}: {line}"
    yield from never_called_line(diff.new)
