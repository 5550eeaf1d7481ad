"""The report for spreadsheets and data frames: one row for each measurement, with exact amounts."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.metrics import (
    METRICS,
    Amount,
    devices_in,
    key_for,
    metric_of,
    name_in,
    sort_metrics,
    value_of,
)
from pytest_flopsbudget.results.comparison import before
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flopsbudget.results.report import Report
    from pytest_flopsbudget.results.verdict import Verdict


_TEST = ("nodeid", "name", "file", "line", "test_outcome", "verdict", "fails")
_RUN = ("model", "inputs", "execution", "backward", "times")

#: The columns of each metric: the measured value, the baseline's value, and the limit.
_PARTS = ("", "_baseline", "_limit")
#: Metrics that have columns only if a measurement has them. `_ALWAYS` are those that always have columns.
_OF_SOME = tuple(
    key
    for key, metric in METRICS.items()
    if metric.of_serving or not metric.in_baselines or isinstance(metric.absent, str)
)
_ALWAYS = tuple(key for key, metric in METRICS.items() if metric.per is None and key not in _OF_SOME)

#: Spreadsheets read a text that begins with one of these characters as a formula.
_FORMULA = ("=", "+", "-", "@")


def text(report: Report) -> str:
    """Return the report as CSV: a header, then one row for each measurement, in the order of the tests."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    keys = (*_ALWAYS, *_named(report))
    columns = (*_TEST, *_RUN, *(f"{key}{part}" for key in keys for part in _parts(key)))
    writer.writerow(map(_as_text, columns))
    for test in report.tests:
        for measurement in test.measurements:
            complexity = measurement.complexity
            words = {
                "nodeid": test.nodeid,
                "name": measurement.name,
                "file": test.file,
                "line": str(test.line),
                "test_outcome": test.outcome,
                "verdict": measurement.outcome,
                "fails": _truth(measurement.fails),
                "model": complexity.model,
                "inputs": "; ".join(complexity.inputs),
                "execution": complexity.execution,
                "backward": _truth(complexity.backward),
                "times": str(measurement.times),
            }
            cells = {key: _as_text(word) for key, word in words.items()} | _amounts(measurement, keys)
            writer.writerow([cells.get(column, "") for column in columns])
    return stream.getvalue()


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _as_text(word: str) -> str:
    word = visible(word)
    return f"'{word}" if word.startswith(_FORMULA) else word


def _parts(key: str) -> tuple[str, ...]:
    # A measured latency may be too noisy to be judged.
    return (*_PARTS, "_judged") if metric_of(key).per == "machine" else _PARTS


def _named(report: Report) -> list[str]:
    """Return the keys of measured or limited metrics that are not in `_ALWAYS`."""
    found: set[str] = set()
    for test in report.tests:
        for one in test.measurements:
            keys = (*one.complexity.metrics, *one.limits)
            found.update(key for key in keys if name_in(key) or key in _OF_SOME)
            found.update(key_for("time", device) for device in devices_in(one.complexity.metrics))
    return sort_metrics(found)


def _amounts(measurement: Verdict, keys: Iterable[str]) -> dict[str, str]:
    accepted = before(measurement.comparison, measurement.complexity.metrics)
    amounts = {}
    for key in keys:
        limit = measurement.limits.get(key)
        amounts[key] = _digits(value_of(measurement.complexity.metrics, key))
        amounts[f"{key}_baseline"] = _digits(value_of(accepted, key))
        if metric_of(key).per == "machine" and amounts[key]:
            amounts[f"{key}_judged"] = _truth(key not in {one.metric for one in measurement.unjudged})
        amounts[f"{key}_limit"] = _digits(limit.bound(key) if limit else None)
    return amounts


def _digits(value: Amount | None) -> str:
    """Return a whole number exactly, a ratio as the nearest float, and "" for None."""
    return "" if value is None else str(value if isinstance(value, int) else float(value))
