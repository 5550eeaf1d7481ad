"""The tables in the text of a failure: the broken metrics, the modules over a limit, and the modules that changed."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from pytest_flopsbudget.identifiers import matches_pattern, split_nodeid
from pytest_flopsbudget.quantities.formatting import format_pair, format_percent, format_value
from pytest_flopsbudget.quantities.metrics import (
    Amount,
    compared_parts,
    measured_value,
    metric_of,
    name_in,
    sort_metrics,
)
from pytest_flopsbudget.reports.broken_limits import format_share, part_of
from pytest_flopsbudget.reports.causes import without_followers
from pytest_flopsbudget.reports.wording import estimate_sign, format_growth
from pytest_flopsbudget.results.comparison import before
from pytest_flopsbudget.results.diff import self_values
from pytest_flopsbudget.results.folding import fold, unfold_path, without_peaks
from pytest_flopsbudget.results.limits import Violation, to_number
from pytest_flopsbudget.safe_text import pluralize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.diff import Diff
    from pytest_flopsbudget.results.edits import Edit
    from pytest_flopsbudget.results.limits import Bound
    from pytest_flopsbudget.results.verdict import Verdict

    #: Writes a value of a metric: an amount, or a change.
    _Writer = Callable[[int, str], str]


#: The maximum number of modules in a table of modules that changed, and in a table of modules over a limit.
_MAX_MODULES = 5
_MAX_OVER = 12

_MARKER = re.compile(r"@pytest\.mark\.flops_budget on (.+)", re.DOTALL)
_TABLE = re.compile(r"(?P<file>.+), \[+tool\.pytest-flopsbudget\.(?P<key>\w+)\]+(?P<number> \d+)?", re.DOTALL)


class BrokenMetric(NamedTuple):
    """A metric that is beyond a limit or beyond the tolerance of the baseline."""

    metric: str
    #: The metric and the part of the model in words: "params", "flops of layer4", "flops of the backward phase".
    label: str
    #: The value in the baseline; None if it is unknown.
    old: Amount | None
    new: Amount
    #: The limit; None if only the baseline holds the metric.
    limit: Amount | None
    #: The growth that the baseline's tolerance allows; None if no baseline is broken.
    tolerated: int | None
    #: Who set the limit or the tolerance: "marker", "pyproject budgets 1", "baseline".
    set_by: tuple[str, ...]
    #: The kind of the limit.
    bound: Bound = "maximum"
    #: If the limit is a share, which share of what: "30% of head".
    share: str = ""

    @property
    def excess(self) -> Fraction:
        """How far the value is beyond the limit or the baseline, as a share; 0 if the limit or the baseline is 0."""
        bound = self.limit if self.limit is not None else self.old
        if self.bound == "minimum":
            return Fraction(bound or 0) / self.new - 1 if self.new else Fraction(0)
        return abs(Fraction(self.new) / bound - 1) if bound else Fraction(0)

    @property
    def percent(self) -> str:
        """The excess over the limit, or the growth over the baseline, in percent. Empty if the limit is 0."""
        if self.limit is not None:
            return _format_excess(self.limit, self.new)
        return format_percent(self.old, self.new) if self.old is not None else ""


def broken_metrics(nodeid: str, verdict: Verdict, *, verbose: bool = False) -> list[BrokenMetric]:
    """Return the broken metrics, sorted like tables. A metric that follows from another one is left out.

    Args:
        nodeid: the node id of the test. A limit of its own marker is set by "marker", without the marker's place.
        verdict: the measurement.
        verbose: whether metrics that follow from others, like param_bytes from params, are included too.
    """
    old = before(verdict.comparison, verdict.complexity.metrics)
    limits = [_over_limit(nodeid, item, old) for item in single_violations(verdict)]
    limited = {part for row in limits if row.label == row.metric for part in _judged_as(row.metric)}
    grown = {change.metric: change for change in verdict.comparison.changes if not change.allowed}
    texts = {metric: format_percent(change.old, change.new) for metric, change in grown.items()}
    shown = list(grown) if verbose else without_followers(grown, texts)
    rows = [
        row._replace(set_by=(*row.set_by, "baseline"), tolerated=grown[row.metric].tolerated)
        if row.label in grown
        else row
        for row in limits
    ]
    rows += [
        BrokenMetric(metric, metric, change.old, change.new, None, change.tolerated, ("baseline",))
        for metric, change in grown.items()
        if metric in shown and metric not in limited
    ]
    places = {metric: place for place, metric in enumerate(sort_metrics({row.metric for row in rows}))}
    return sorted(rows, key=lambda row: (row.label != row.metric, places[row.metric]))


def _judged_as(metric: str) -> tuple[str, ...]:
    """Return the keys of the baseline that a metric consists of: ("flops",) for "macs", else the metric itself."""
    return (compared_parts(metric) or (metric,)) if name_in(metric) is None else (metric,)


def single_violations(verdict: Verdict) -> list[Violation]:
    """Return the broken limits without those that several modules of one pattern break."""
    groups = module_groups(verdict)
    return [
        item
        for item in verdict.broken
        if isinstance(item, Violation) and not any(item in group.items for group in groups)
    ]


def _over_limit(nodeid: str, item: Violation, old: Mapping[str, int]) -> BrokenMetric:
    part = part_of(item)
    return BrokenMetric(
        metric=item.metric,
        label=f"{item.metric}{part}",
        old=None if part or not old else measured_value(old, item.metric),
        new=to_number(item.measured),
        limit=to_number(item.limit),
        tolerated=None,
        set_by=(set_by(item.source, nodeid),),
        bound=item.bound,
        share=f"{format_share(item.share)} of {item.share_of or 'the whole model'}" if item.share is not None else "",
    )


def set_by(source: str, nodeid: str) -> str:
    """Return who set a limit, in a few words: "marker", "marker on TestNet", "pyproject budgets 1"."""
    marker = _MARKER.fullmatch(source)
    if marker:
        file, test_id = split_nodeid(marker[1])
        own = split_nodeid(nodeid)[1]
        if test_id and (own == test_id or own.startswith(f"{test_id}[")):
            return "marker"
        return f"marker on {test_id or file.rpartition('/')[2]}"
    table = _TABLE.fullmatch(source)
    if table:
        file = "pyproject" if table["file"] == "pyproject.toml" else table["file"]
        return f"{file} {table['key']}{table['number'] or ''}"
    return source


def _format_excess(limit: int | Fraction, value: int | Fraction) -> str:
    return format_percent(limit, value) if limit else ""


def metric_table(rows: Sequence[BrokenMetric]) -> list[str]:
    """Return a table with one row for each broken metric: before, now, change, what is allowed, and who set this."""
    if not rows:
        return []
    has_baseline = any(row.old is not None for row in rows)
    beyond = "over" if all(row.bound == "maximum" for row in rows) else "off"
    cells = [("metric", "before", "now", "change" if has_baseline else beyond, "allowed", "set by")]
    for row in rows:
        old, new, allowed = _amounts(row)
        change = row.percent if not has_baseline else format_percent(row.old, row.new) if row.old is not None else ""
        cells.append((row.label, old, new, change, allowed, ", ".join(row.set_by)))
    return align(cells, left=(0, 5))


def _amounts(row: BrokenMetric) -> tuple[str, str, str]:
    """Return the texts of the old value, of the new value and of what is allowed."""
    metric, sign = metric_of(row.metric), estimate_sign(row.metric)
    news = [format_value(row.new, metric)]
    old = limit = ""
    if row.old is not None:
        old, new = format_pair(row.old, row.new, metric)
        old = f"{sign}{old}"
        news.append(new)
    if row.limit is not None:
        new, limit = format_pair(row.new, row.limit, metric)
        limit = _allowed(limit, row.bound) + (f" ({row.share})" if row.share else "")
        news.append(new)
    elif row.tolerated is not None and isinstance(row.old, int):
        limit = format_percent(row.old, row.old + row.tolerated) if row.tolerated and row.old else "no growth"
    # The longest text is the one that differs visibly from both the old value and the limit.
    return old, f"{sign}{max(news, key=len)}", limit


def _allowed(limit: str, bound: Bound) -> str:
    return {"maximum": limit, "minimum": f"min {limit}", "exact value": f"exactly {limit}"}[bound]


def align(cells: Sequence[Sequence[str]], left: Iterable[int]) -> list[str]:
    """Return the rows of a table as lines. Numbers are aligned on the right, columns in ``left`` on the left.

    A column without any text below its head is left out.
    """
    kept = [place for place in range(len(cells[0])) if any(row[place] for row in cells[1:])]
    widths = {place: max(len(row[place]) for row in cells) for place in kept}
    on_left = set(left)
    return [
        "  "
        + "  ".join(
            row[place].ljust(widths[place]) if place in on_left else row[place].rjust(widths[place]) for place in kept
        ).rstrip()
        for row in cells
    ]


# Modules over a limit of a pattern


class ModuleGroup(NamedTuple):
    """Several modules that break one limit of a pattern."""

    metric: str
    #: The pattern of module paths; None if it is not known.
    pattern: str | None
    items: tuple[Violation, ...]


def module_groups(verdict: Verdict) -> list[ModuleGroup]:
    """Return the limits that several modules break."""
    groups: dict[tuple[object, ...], list[Violation]] = {}
    for item in verdict.broken:
        if isinstance(item, Violation) and item.module is not None:
            pattern = _pattern(verdict, item)
            groups.setdefault((item.metric, pattern, item.limit, item.bound, item.source), []).append(item)
    return [
        ModuleGroup(items[0].metric, _pattern(verdict, items[0]), tuple(items))
        for items in groups.values()
        if len(items) > 1
    ]


def _pattern(verdict: Verdict, item: Violation) -> str | None:
    for pattern, limits in verdict.module_limits.items():
        limit = limits.get(item.metric)
        if limit is not None and limit.source == item.source and matches_pattern(item.module or "", pattern):
            return pattern
    return None


def group_lines(group: ModuleGroup, nodeid: str) -> Iterator[str]:
    """Yield a head on the limit, and a line for each module. The module with the largest excess is first."""
    metric = metric_of(group.metric)
    first = group.items[0]
    where = f'modules "{group.pattern}"' if group.pattern is not None else "modules"
    limit = _allowed(format_value(to_number(first.limit), metric), first.bound)
    yield f"{group.metric} of {where}, allowed {limit}, set by {set_by(first.source, nodeid)}:"
    items = sorted(group.items, key=lambda item: -item.excess)
    sign = estimate_sign(group.metric)
    cells = [("now", "over" if first.bound == "maximum" else "off", "module")]
    for item in items[:_MAX_OVER]:
        measured, limited = to_number(item.measured), to_number(item.limit)
        now = format_pair(measured, limited, metric)[0]
        cells.append((f"{sign}{now}", _format_excess(limited, measured), item.module or ""))
    yield from align(cells, left=(2,))
    if len(items) > _MAX_OVER:
        yield f"  and {len(items) - _MAX_OVER:,} more"


# Modules that changed


def changed_modules(diffs: Iterable[Diff], edits: Iterable[Edit], metrics: Iterable[str]) -> list[str]:
    """Return a table of the modules through which ``metrics`` changed, with a column for each metric.

    The table is left out if one module made the whole change and is the only edit, because the first lines name it.
    Metrics that do not add up over the modules are left out.
    """
    wanted = {part for metric in metrics for part in _judged_as(metric)}
    diffs = [diff for diff in diffs if diff.metric in wanted and diff.modules and _adds_up(diff.metric)]
    by_path: dict[str, dict[str, int]] = {}
    counts: dict[str, int] = {}
    for diff in diffs:
        for change in diff.modules:
            if change.change:
                own = by_path.setdefault(change.path, {})
                own[diff.metric] = own.get(diff.metric, 0) + change.change
                counts[change.path] = change.count
    if [*by_path] == [""] or (len(by_path) == 1 and [edit.path for edit in edits] == [*by_path]):
        return []
    totals = {diff.metric: max(1, abs(diff.new - diff.old)) for diff in diffs}
    values = {
        f"{path or 'the model itself'}{f' (x{counts[path]:,})' if counts[path] > 1 else ''}": found
        for path, found in sorted(
            by_path.items(),
            key=lambda item: -max(Fraction(abs(value), totals[metric]) for metric, value in item[1].items()),
        )
    }
    return _module_table(values, [diff.metric for diff in diffs], format_growth)


def _adds_up(metric: str) -> bool:
    return metric_of(metric).aggregation in {"sum", "distinct"}


def largest_modules(complexity: Complexity, rows: Sequence[BrokenMetric]) -> list[str]:
    """Return a table of the modules with the largest self values (without child modules) of the broken metrics.

    Metrics that do not add up over the modules are left out.
    """
    metrics = [row.metric for row in rows if row.label == row.metric and row.limit is not None]
    metrics = [key for key in metrics if _adds_up(key)]
    if not metrics:
        return []
    modules = without_peaks(complexity.modules)
    own = {metric: self_values(modules, metric) for metric in metrics}
    totals = {metric: max(1, sum(values.values())) for metric, values in own.items()}
    found = {}
    for folded, module in fold(modules).items():
        words = f"{module.type}({module.shape})" if module.shape else module.type
        values = {metric: sum(own[metric][path] for path in unfold_path(folded)) for metric in metrics}
        found[f"{folded or 'the model itself'}: {words}"] = {key: value for key, value in values.items() if value > 0}
    ranked = sorted(
        (item for item in found.items() if item[1]),
        key=lambda item: -max(Fraction(value, totals[metric]) for metric, value in item[1].items()),
    )
    return _module_table(dict(ranked), metrics, _value)


def _module_table(values: Mapping[str, Mapping[str, int]], metrics: Sequence[str], write: _Writer) -> list[str]:
    if not values:
        return []
    shown = list(values)[:_MAX_MODULES]
    cells = [(*metrics, "module")]
    cells += [(*(_cell(values[name], metric, write) for metric in metrics), name) for name in shown]
    rest = list(values)[_MAX_MODULES:]
    if rest:
        sums = {
            metric: sum(values[name].get(metric, 0) for name in rest)
            for metric in metrics
            if any(metric in values[name] for name in rest)
        }
        cells.append(
            (*(_cell(sums, metric, write) for metric in metrics), f"and {pluralize(len(rest), 'more module')}")
        )
    return align(cells, left=(len(metrics),))


def _value(value: int, metric: str) -> str:
    return f"{estimate_sign(metric)}{format_value(value, metric_of(metric))}"


def _cell(values: Mapping[str, int], metric: str, write: _Writer) -> str:
    if metric not in values:
        return ""
    row, text = metric_of(metric), write(values[metric], metric)
    # The head of the column names the metric.
    return text.removesuffix(f" {row.title}") if row.unit == "count" else text
