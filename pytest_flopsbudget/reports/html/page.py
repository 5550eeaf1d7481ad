"""A run as one HTML file: verdicts, causes, and for each measurement its metrics, modules, operators and roofline."""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment
from markupsafe import Markup

from pytest_flopsbudget.hardware.catalog import DEVICES
from pytest_flopsbudget.quantities.formatting import format_percent, format_value
from pytest_flopsbudget.quantities.metrics import (
    METRICS,
    devices_in,
    key_for,
    measured_value,
    metric_of,
    sort_metrics,
    value_of,
)
from pytest_flopsbudget.quantities.units import BINARY_PREFIXES, DECIMAL_PREFIXES
from pytest_flopsbudget.reports import cells
from pytest_flopsbudget.reports.broken_limits import total_lines, warning_lines
from pytest_flopsbudget.reports.causes import cause_lines
from pytest_flopsbudget.reports.details import peak_lines
from pytest_flopsbudget.reports.failure import explain_one
from pytest_flopsbudget.reports.headline import headline
from pytest_flopsbudget.reports.html.figures import growth, memory, roofline
from pytest_flopsbudget.reports.html.tree import Tree, value
from pytest_flopsbudget.reports.law_changes import law_sentence
from pytest_flopsbudget.reports.law_facts import law_facts, law_in_words
from pytest_flopsbudget.results.comparison import before
from pytest_flopsbudget.safe_text import pluralize, use_signs, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.causes import Cause
    from pytest_flopsbudget.results.module_tree import ModuleGroup
    from pytest_flopsbudget.results.report import Report, ReportedTest
    from pytest_flopsbudget.results.verdict import Outcome, Verdict
    from pytest_flopsbudget.storage.history import Series

#: The maximum number of measurements that have a section. The others have a row in the overview.
_MAX_SECTIONS = 200
#: The maximum number of rows in a table of modules or operators.
_MAX_ROWS = 400
#: The maximum number of commits in the history of a measurement.
_MAX_COMMITS = 50
#: The maximum number of measurements in the table at the top; the others follow in a table that opens with a click.
_MAX_ROWS = 10
#: The device of the roofline if the run estimated no times.
_EXAMPLE_DEVICE = "A100"

#: The colour of the first sentence.
_PAGE_MOODS = {"broken": "bad", "failed otherwise": "note", "passed": "good", "empty": "note"}
_MOODS: Mapping[Outcome, str] = {
    "over limit": "bad",
    "under limit": "bad",
    "unchecked limit": "bad",
    "regressed": "bad",
    "unknown operators": "bad",
    "accepted": "note",
    "improved": "good",
    "changed": "note",
    "new": "note",
    "ok": "good",
}
_MODULE_METRICS = ("flops", "params", "activations", "memory_traffic")
_OPERATOR_METRICS = ("flops", "other_flops", "memory_traffic", "arithmetic_intensity")


def text(report: Report, history: Sequence[Series] = (), *, words: str = "") -> str:
    """Return the run as an HTML page. The page loads nothing from outside, and its tables need no script.

    Args:
        report: the run.
        history: the history of measurements. A measurement without a history shows none.
        words: the sentence at the top; empty for a sentence on the verdicts.
    """
    series = {(one.address.nodeid, one.address.name): one for one in history if one.lives}
    rows = [(test, one) for test in report.tests for one in test.measurements]
    rows.sort(key=lambda row: (not row[1].fails, row[1].outcome == "ok"))
    measurements = [
        _measurement(report, test, one, number, series.get((test.nodeid, one.name)))
        for number, (test, one) in enumerate(rows)
    ]
    # The rows of measurements that need a look come before the explanations; all others are behind a click.
    listed = min(_MAX_ROWS, sum(one.fails or one.outcome != "ok" for _, one in rows) or len(rows))
    left_out = len(rows) - _MAX_SECTIONS
    data = {
        "metrics": {},
        "measurements": [one.pop("data") for one in measurements],
    }
    shown = {key for one in data["measurements"] if one for key in one["keys"]}
    data["metrics"] = {key: _metric(key) for key in sort_metrics(shown)}
    found = headline(report)
    rendered: str = _template().render(
        title="Complexity budgets",
        style=Markup(_resource("page.css")),  # noqa: S704 -- our own file
        script=Markup(_resource("page.js")),  # noqa: S704 -- our own file
        data=_json(data),
        headline=words or f"{found.words[0].upper()}{found.words[1:]}.",
        mood=_PAGE_MOODS["passed" if words else found.mood],
        versions=f"pytest-flopsbudget {report.run.plugin}, PyTorch {report.run.torch}, Python {report.run.python}",
        notes=[
            visible(line)
            for line in (
                *total_lines(report.total.broken),
                *warning_lines(report.total.warned),
                *report.run.errors,
            )
        ],
        causes=[_cause(cause) for cause in report.causes if len(cause.tests) > 1 or cause.edits],
        heads=[metric_of(report.run.show).title, "change", "limit", "params"],
        overview=measurements[:listed],
        others=measurements[listed:],
        others_title=_others_title([one.outcome for _, one in rows[listed:]]),
        measurements=measurements,
        left_out=f"{pluralize(left_out, 'measurement')} more have no section of their own." if left_out > 0 else "",
    )
    return rendered


def _others_title(outcomes: Sequence[Outcome]) -> str:
    """Return the heading of the table of the other measurements: "61 more measurements: 1 regressed, 60 ok"."""
    counts = Counter(outcomes)
    words = ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in _MOODS if counts[outcome])
    return f"{pluralize(len(outcomes), 'more measurement')}: {words}"


def _template() -> Any:
    return Environment(autoescape=True, trim_blocks=False).from_string(_resource("page.html"))


def _resource(name: str) -> str:
    return files("pytest_flopsbudget.reports.html").joinpath(name).read_text(encoding="utf-8")


def _json(data: object) -> Markup:
    """Return JSON that a script element may hold: no text in it can end the element."""
    dumped = json.dumps(data, separators=(",", ":"))
    for sign in "<>&":
        dumped = dumped.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(dumped)  # noqa: S704 -- no sign of HTML is left


def _metric(key: str) -> dict[str, Any]:
    metric = metric_of(key)
    prefixes, base = (BINARY_PREFIXES, 1024) if metric.unit == "bytes" else (DECIMAL_PREFIXES, 1000)
    unit = {"count": "", "bytes": "B", "ns": "s"}.get(metric.unit, metric.unit)
    steps: list[tuple[float, str]] = [(base**power, prefix) for power, prefix in enumerate(prefixes)]
    if metric.unit == "ns":
        steps = [(1, "n"), (10**3, "\N{MICRO SIGN}"), (10**6, "m"), (10**9, "")]
    return {"title": visible(key), "unit": unit, "steps": steps}


def _cause(cause: Cause) -> dict[str, object]:
    title, *lines = (visible(line.strip()) for line in cause_lines(cause))
    return {"title": title, "lines": lines}


def _measurement(
    report: Report, test: ReportedTest, one: Verdict, number: int, series: Series | None
) -> dict[str, Any]:
    complexity = one.complexity
    detailed = number < _MAX_SECTIONS
    label = visible(cells.label(test.nodeid, one.name, alone=len(test.measurements) == 1))
    made: dict[str, Any] = {
        "number": number,
        "label": label,
        "detailed": detailed,
        "mood": _MOODS[one.outcome],
        "verdict": one.outcome,
        "cells": (
            cells.amount(complexity.metrics, report.run.show),
            cells.change(one.comparison, report.run.show),
            cells.used(one.share),
            cells.amount(complexity.metrics, "params"),
        ),
        "data": None,
    }
    if not detailed:
        return made
    tree = Tree(complexity, one.diffs)
    device = _device(one)
    operators = sorted(complexity.operators.items(), key=lambda item: -_work(item[1].metrics))[:_MAX_ROWS]
    return made | {
        "subtitle": visible(
            f"{complexity.model}({', '.join(complexity.inputs)}), counted {_EXECUTION[complexity.execution]}"
        ),
        "why": explain_one(test.nodeid, one, test.measurements, own_failure=test.own_failure) if one.fails else "",
        "notes": [visible(note) for note in (*warning_lines(one.warned), *complexity.notes)],
        "metrics": [*_metric_rows(one)],
        "laws": [*_laws(one)],
        "open": False,
        "module_heads": [METRICS[key].title for key in _MODULE_METRICS],
        "modules": [*_module_rows(tree)],
        "operator_heads": [METRICS[key].title for key in _OPERATOR_METRICS],
        "operators": [
            {
                "name": visible(name),
                "calls": f"{operator.calls:,}",
                "cells": [cells.amount(operator.metrics, key) for key in _OPERATOR_METRICS],
            }
            for name, operator in operators
        ],
        "history_heads": [metric_of(report.run.show).title, "params", *(["law"] if _has_laws(series) else [])],
        "history": [] if series is None else [*_history_rows(series, report.run.show)],
        "figures": [*_figures(one, device, report.run.show)],
        "data": {"keys": tree.keys, "tree": tree.plain(), "changed": bool(one.diffs)},
    }


_EXECUTION = {"shapes": "on shapes alone", "real": "on real data", "watched": "as the test ran it"}


def _work(metrics: Mapping[str, int]) -> int:
    return metrics.get("flops", 0) + metrics.get("other_flops", 0)


def _device(one: Verdict) -> Device:
    names = devices_in(one.complexity.metrics)
    return DEVICES.get(names[0] if names else _EXAMPLE_DEVICE, DEVICES[_EXAMPLE_DEVICE])


def _laws(one: Verdict) -> Iterator[dict[str, object]]:
    """Yield each law in words, with the lines on what it means."""
    found: list[tuple[str, list[str]]] = []
    changes = [law_sentence(change) for change in one.comparison.laws]
    facts = [] if one.complexity.laws is None else law_facts(one.complexity.laws, signs=True)
    for depth, words in (*((0, use_signs(words)) for words in changes), *facts):
        if depth:
            found[-1][1].append(visible(words))
        else:
            found.append((visible(words), []))
    for head, lines in found:
        yield {"head": head, "lines": lines}


def _metric_rows(one: Verdict) -> Iterator[dict[str, str]]:
    metrics = one.complexity.metrics
    old = before(one.comparison, metrics)
    grown = {change.metric for change in one.comparison.changes if not change.allowed}
    broken = {item.metric for item in one.broken if not item.module and not item.phase and not item.operator}
    for key in sort_metrics({*metrics, *one.limits, *(key_for("time", name) for name in devices_in(metrics))}):
        now, was = measured_value(metrics, key), value_of(old, key)
        limit = one.limits.get(key)
        bound = limit.bound(key) if limit is not None else None
        metric = metric_of(key)
        yield {
            "title": visible(key),
            "now": "" if now is None else format_value(now, metric),
            "before": "" if was is None else format_value(was, metric),
            "change": "" if now is None or was is None or now == was else format_percent(was, now),
            "limit": "" if bound is None else format_value(bound, metric),
            "mood": "bad" if key in grown or key in broken else "",
        }


def _module_rows(tree: Tree) -> Iterator[dict[str, Any]]:
    depths = {id(tree.root): 0}
    for group in tree.groups[:_MAX_ROWS]:
        depths.update((id(child), depths[id(group)] + 1) for child in group.children)
        times = f" (x{group.count})" if group.count > 1 else ""
        yield {
            "depth": depths[id(group)],
            "name": visible((group.path.rpartition(".")[2] or "the model") + times),
            "kind": visible(f"{group.module.type} {group.module.shape}".strip()),
            "calls": f"{group.calls:,}",
            "cells": [_module_cell(tree, group, key) for key in _MODULE_METRICS],
            "change": any(tree.growth.get(id(group), {}).values()),
        }
    rest = len(tree.groups) - _MAX_ROWS
    if rest > 0:
        yield {"depth": 0, "name": f"and {rest:,} more", "kind": "", "calls": "", "cells": (), "change": False}


def _module_cell(tree: Tree, group: ModuleGroup, key: str) -> str:
    now = value(group, key)
    if key not in tree.root.total_metrics:
        return ""
    text = format_value(now, METRICS[key])
    was = tree.before(group, key)
    return text if was is None or was == now else f"{text} ({format_percent(was, now)})"


def _history_rows(series: Series, show: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each commit that changed the shown metric, its law or the parameters, the newest one first."""
    for point in series.changes({show, "params"})[: -_MAX_COMMITS - 1 : -1]:
        totals = point.totals
        values = ["", ""] if totals is None else [cells.amount(totals.metrics, key) for key in (show, "params")]
        if _has_laws(series):
            values.append("" if totals is None else visible(law_in_words(totals.laws, show, signs=True)))
        yield {
            "date": point.revision.date,
            "commit": point.revision.commit,
            "subject": visible(point.revision.subject),
            "cells": values,
        }


def _has_laws(series: Series | None) -> bool:
    return series is not None and any(point.totals and point.totals.laws for point in series.points)


def _law_figures(one: Verdict, show: str) -> Iterator[dict[str, object]]:
    laws = one.complexity.laws
    if laws is None:
        return
    for symbol in laws.sizes:
        for metric in dict.fromkeys((show if show in laws.metrics else "flops", "peak_memory")):
            drawn = growth(laws, metric, symbol)
            if drawn:
                sizes = (f"{other} = {own.last:,}" for other, own in laws.sizes.items() if other != symbol)
                fixed = f", for {', '.join(sizes)}" if len(laws.sizes) > 1 else ""
                words = f"{metric} over {symbol}{fixed}: the line is the law, the points were counted"
                yield {"caption": visible(words), "svg": drawn}


def _figures(one: Verdict, device: Device, show: str) -> Iterator[dict[str, object]]:
    yield from _law_figures(one, show)
    alive = memory(one.complexity)
    if alive:
        yield {"caption": "Memory over the run. " + " ".join(map(visible, peak_lines(one.complexity))), "svg": alive}
    drawn = roofline(one.complexity, device)
    if drawn:
        estimated = device.name in devices_in(one.complexity.metrics)
        size = "time (estimate)" if estimated else "FLOPs; the device is an example, name yours in time-on"
        yield {
            "caption": f"Roofline of {device.name}: the larger a point, the larger its operator's {size}",
            "svg": drawn,
        }
