"""The report for spreadsheets and data frames: a row a measurement, amounts to the last digit."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from pytest_flopsbudget.reports.text import visible
from pytest_flopsbudget.results.metrics import METRICS, value_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.results.report import Report, ReportedMeasurement

_TEST = ("nodeid", "name", "file", "line", "test_outcome", "verdict", "fails")
_RUN = ("model", "inputs", "execution", "backward", "times")

#: A column a metric for what was measured, what was accepted before, and the limit; empty where there is none.
COLUMNS = (*_TEST, *_RUN, *(f"{key}{part}" for key in METRICS for part in ("", "_baseline", "_limit")))

#: With one of these at the front, spreadsheets take a text for a formula.
_FORMULA = ("=", "+", "-", "@")


def text(report: Report) -> str:
    """The report as CSV: a head, then a row a measurement, in the order of the tests."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
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
            cells = {key: _as_text(word) for key, word in words.items()} | _amounts(measurement)
            writer.writerow([cells[column] for column in COLUMNS])
    return stream.getvalue()


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _as_text(word: str) -> str:
    word = visible(word)
    return f"'{word}" if word.startswith(_FORMULA) else word


def _amounts(measurement: ReportedMeasurement) -> dict[str, str]:
    before = _before(measurement)
    amounts = {}
    for key in METRICS:
        limit = measurement.limits.get(key)
        amounts[key] = _digits(value_of(measurement.complexity.metrics, key))
        amounts[f"{key}_baseline"] = _digits(value_of(before, key))
        amounts[f"{key}_limit"] = _digits(limit.most if limit else None)
    return amounts


def _before(measurement: ReportedMeasurement) -> Mapping[str, int]:
    """The stored metrics of the baseline, of those that were measured again."""
    if measurement.comparison.status == "new":
        return {}
    return measurement.complexity.metrics | {change.metric: change.old for change in measurement.comparison.changes}


def _digits(value: int | None) -> str:
    return "" if value is None else str(value)
