"""The file of a report: JSON with one line for each module and operator. Reading is strict."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from pytest_flopsbudget.errors import ReportError
from pytest_flopsbudget.quantities.metrics import METRICS, STORED, STORED_BY_NAME, is_key, is_stored
from pytest_flopsbudget.results.folding import first_path, fold, unfold
from pytest_flopsbudget.results.report import FORMAT, Report
from pytest_flopsbudget.storage import strict_json
from pytest_flopsbudget.storage.atomic_file import write_report
from pytest_flopsbudget.storage.law_checks import check_measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.verdict import Verdict
    from pytest_flopsbudget.storage.strict_json import JsonPath


#: The maximum size of a report that is read, in bytes. Reading takes about 7 times as much memory, see docs/reports.md.
MAX_BYTES = 256 * 2**20

_REMEDY = "Take it anew from the run that wrote it, or run the tests again with --flops-budget-json."

#: Keys whose values are written on several lines.
_OPENED = frozenset({
    "run", "tests", "measurements", "broken", "comparison", "changes", "parts", "diffs", "unjudged",
    "causes", "complexity", "laws", "totals", "modules", "operators", "unknown_operators", "phases",
})  # fmt: skip


def load(path: Path) -> Report:
    """Read a report.

    Raises:
        ReportError: the file cannot be read, is larger than `MAX_BYTES`, is no JSON, was written by a newer version, or
            has content that is not allowed in a report. The message names the line.
    """
    try:
        with path.open("rb") as stream:
            # A pipe has no size, so the bytes are counted while they are read.
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: no file can have this name
        reason = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ReportError(f"{path}: {reason}. Name a report that --flops-budget-json wrote.") from error
    if len(data) > MAX_BYTES:
        raise ReportError(
            f"{path}: is larger than {MAX_BYTES // 2**20} MiB, the largest report that is read. Run the tests "
            "in several parts, each with a report, and name these reports one at a time."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ReportError(f"{path}, line {line}: not UTF-8. {_REMEDY}") from error
    return loads(text, path)


def loads(text: str, path: Path) -> Report:
    """Parse ``text``, the content of the file ``path``. Messages name this file.

    Raises:
        ReportError: see `load`.
    """
    try:
        data = strict_json.parse(text)
        return _read(data)
    except strict_json.FaultError as fault:
        line = fault.line or strict_json.line_of(text, fault.place)
        place = f"{strict_json.in_words(fault.place)}: " if fault.place else ""
        raise ReportError(f"{path}, line {line}: {place}{fault.reason}. {fault.remedy or _REMEDY}") from fault


def save(report: Report, path: Path) -> None:
    """Write a report completely or not at all. Missing folders are created.

    Raises:
        ReportError: the file cannot be written; an existing file is unchanged.
    """
    write_report(path, dumps(report).encode())


def dumps(report: Report) -> str:
    """Return the text of a report. Equal reports have equal texts."""
    return _laid_out(msgspec.to_builtins(_each(report, _folded)), 0) + "\n"


# Writing


def _laid_out(value: dict[str, Any] | Sequence[Any], depth: int) -> str:
    """Return ``value`` as JSON. Values of keys in `_OPENED` have one line per entry, other values have one line."""
    indent = "\n" + "  " * depth
    if isinstance(value, dict):
        rows = [
            f"{_json(key)}: {_laid_out(inner, depth + 1) if _is_opened(key, inner) else _json(_named_first(inner))}"
            for key, inner in value.items()
        ]
    else:
        rows = [
            _laid_out(item, depth + 1) if isinstance(item, dict) and not _OPENED.isdisjoint(item) else _json(item)
            for item in value
        ]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}{','.join(f'{indent}  {row}' for row in rows)}{indent}{closing}"


def _is_opened(key: str, value: object) -> bool:
    return key in _OPENED and isinstance(value, (dict, list, tuple)) and bool(value)


def _named_first(value: object) -> object:
    """Return ``value``. If it has the key "metrics", this key is moved to the end."""
    if isinstance(value, dict) and "metrics" in value:
        return {key: inner for key, inner in value.items() if key != "metrics"} | {"metrics": value["metrics"]}
    return value


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # Invisible characters (line separators, text direction marks, lone surrogates) are escaped.
    return text if text.isprintable() else json.dumps(value)


# Reading


def _read(data: object) -> Report:
    if not isinstance(data, dict):
        raise strict_json.FaultError("no report, which is a JSON object", line=1)
    if "run" not in data and ("lines" in data or isinstance(data.get("tests"), dict)):
        raise strict_json.FaultError("a baseline, and no report", line=1)
    written = data.get("format")
    if isinstance(written, int) and written > FORMAT:
        reason = f"written by a newer pytest-flopsbudget: it is {written}, and this version reads {FORMAT}"
        raise strict_json.FaultError(reason, ("format",), remedy="Upgrade pytest-flopsbudget.")
    if written is None:
        raise strict_json.FaultError('the key "format" is missing', line=1)
    report = strict_json.convert(data, Report)
    for place, key, stored in _named_metrics(report):
        if not (is_stored(key) if stored else is_key(key)):
            known = (*STORED, *STORED_BY_NAME) if stored else METRICS
            raise strict_json.FaultError(f"no such metric; there are {', '.join(known)}", (*place, key))
    _check_laws(report)
    for place, path in _edited_paths(report):
        _check_path(place, path)
    return _each(report, _unfolded)


def _check_laws(report: Report) -> None:
    for number, test in enumerate(report.tests):
        for own_number, measurement in enumerate(test.measurements):
            laws = measurement.complexity.laws
            if laws is not None:
                check_measured(laws, ("tests", number, "measurements", own_number, "complexity", "laws"))


def _check_path(place: JsonPath, path: str) -> None:
    try:
        first_path(path)
    except ValueError as error:
        raise strict_json.FaultError(str(error), place) from error


def _edited_paths(report: Report) -> Iterator[tuple[JsonPath, str]]:
    for number, test in enumerate(report.tests):
        for own_number, measurement in enumerate(test.measurements):
            for edit_number, edit in enumerate(measurement.edits):
                yield ("tests", number, "measurements", own_number, "edits", edit_number, "path"), edit.path


def _named_metrics(report: Report) -> Iterator[tuple[JsonPath, str, bool]]:
    """Yield (place, metric key, whether the key must be a stored one) for each metric that the report names."""
    yield ("run", "show"), report.run.show, False
    for key in report.run.total_limits:
        yield ("run", "total_limits"), key, False
    for number, test in enumerate(report.tests):
        for own_number, measurement in enumerate(test.measurements):
            place: JsonPath = ("tests", number, "measurements", own_number)
            for below, key in _of_verdict(measurement):
                yield (*place, *below), key, False
            for below, key in _of_complexity(measurement.complexity):
                yield (*place, "complexity", *below), key, True
    for number, cause in enumerate(report.causes):
        for own_number, change in enumerate(cause.changes):
            yield ("causes", number, "changes", own_number), change.metric, False


def _of_verdict(measurement: Verdict) -> Iterator[tuple[JsonPath, str]]:
    for key in measurement.limits:
        yield ("limits",), key
    for table, limited in (
        ("module_limits", measurement.module_limits),
        ("phase_limits", measurement.phase_limits),
        ("operator_limits", measurement.operator_limits),
    ):
        for pattern, limits in limited.items():
            for key in limits:
                yield (table, pattern), key
    for place, items in (
        (("broken",), measurement.broken),
        (("warned",), measurement.warned),
        (("comparison", "changes"), measurement.comparison.changes),
        (("comparison", "parts"), measurement.comparison.parts),
        (("comparison", "laws"), measurement.comparison.laws),
        (("diffs",), measurement.diffs),
        (("unjudged",), measurement.unjudged),
        (("share",), [measurement.share] if measurement.share else []),
    ):
        for item in items:
            yield place, item.metric


def _of_complexity(complexity: Complexity) -> Iterator[tuple[JsonPath, str]]:
    for key in complexity.metrics:
        yield ("metrics",), key
    for table, measured in (
        ("modules", complexity.modules),
        ("operators", complexity.operators),
        ("phases", complexity.phases),
    ):
        for name, one in measured.items():
            for key in one.metrics:
                yield (table, name, "metrics"), key


# Equal siblings among the modules


def _folded(complexity: Complexity, _place: JsonPath) -> Complexity:
    return replace(complexity, modules=fold(complexity.modules))


def _unfolded(complexity: Complexity, place: JsonPath) -> Complexity:
    try:
        return replace(complexity, modules=unfold(complexity.modules))
    except ValueError as error:
        raise strict_json.FaultError(str(error), (*place, "modules")) from error


def _each(report: Report, change: Callable[[Complexity, JsonPath], Complexity]) -> Report:
    """Return a copy of the report in which ``change`` was applied to each measurement."""
    tests = tuple(
        replace(
            test,
            measurements=tuple(
                replace(
                    measurement,
                    complexity=change(
                        measurement.complexity, ("tests", number, "measurements", own_number, "complexity")
                    ),
                )
                for own_number, measurement in enumerate(test.measurements)
            ),
        )
        for number, test in enumerate(report.tests)
    )
    return replace(report, tests=tests)
