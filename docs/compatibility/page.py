"""The results as Markdown, between the markers of docs/compatibility.md."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from compatibility import results
from compatibility.environments import ENVIRONMENTS
from compatibility.reasons import reason_of
from compatibility.upgrades import WRITERS
from peers.table import between_markers, markdown

PAGE = Path(__file__).resolve().parents[1] / "compatibility.md"
_TORCH = (
    *("PyTorch", "Python", "pytest", "tests", "passed", "failed", "skipped"),
    *("examples equal", "sweep equal", "examples without warnings"),
    *(f"baseline of {writer} passes" for writer in WRITERS),
)
_PYTEST = ("pytest", "PyTorch", "Python", "tests", "passed", "failed", "skipped")
#: So many tests of one kind of failure are named.
_NAMED = 6


def write() -> None:
    before = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(between_markers(before, text(results.load())), encoding="utf-8")


def text(rows: dict[str, results.Row]) -> str:
    """Return the tables of results, and then a section for each environment with differences."""
    listed = [rows[each.name] for each in ENVIRONMENTS if each.name in rows]
    torch = [row for row in listed if row["kind"] == "torch"]
    pytest = [row for row in listed if row["kind"] == "pytest"]
    parts = []
    if torch:
        parts.append("### Versions of PyTorch and Python\n\n" + markdown(_TORCH, map(_torch_cells, torch)))
    if pytest:
        parts.append("### Versions of pytest, and plugins\n\n" + markdown(_PYTEST, map(_pytest_cells, pytest)))
    left = [each.name for each in ENVIRONMENTS if each.name not in rows]
    if left:
        parts.append(f"Not tried yet: {'; '.join(left)}.")
    parts += [part for row in listed if (part := _differences(row))]
    return "\n\n".join(parts)


def _suite_cells(row: results.Row) -> tuple[str, ...]:
    suite = row["suite"]
    if "error" in suite:
        return " ".join(suite["tests"]), "the run ended early", "", ""
    skipped = sum(suite["skipped"].values())
    return f"`{' '.join(suite['tests'])}`", f"{suite['passed']:,}", f"{len(suite['failed']):,}", f"{skipped:,}"


def _torch_cells(row: results.Row) -> tuple[str, ...]:
    return (
        row["torch"],
        row["python"],
        row["pytest"],
        *_suite_cells(row),
        _equal(row["examples"]),
        _equal(row["sweep"]),
        _passed(row.get("warnings", {})),
        *(_passed(row.get("upgrades", {}).get(writer, {})) for writer in WRITERS),
    )


def _pytest_cells(row: results.Row) -> tuple[str, ...]:
    name = f"{row['pytest']}{' with plugins' if row['name'].endswith('plugins') else ''}"
    return (name, row["torch"], row["python"], *_suite_cells(row))


def _equal(compared: dict[str, Any]) -> str:
    return "not measured" if "error" in compared else f"{compared['equal']} of {compared['cases']}"


def _passed(found: dict[str, Any]) -> str:
    if "passed" not in found:
        return "not measured"
    return f"{found['passed']} of {found['passed'] + len(found['failed'])}"


def _differences(row: results.Row) -> str:
    """Return a section on the differences in one environment, or "" if there are none."""
    lines = [f"- tests: {row['note']}"] if "note" in row else []
    for name in ("examples", "sweep"):
        compared = row.get(name, {})
        lines += [f"- {name}, `{case}`: {_escaped(found)}" for case, found in compared.get("differ", {}).items()]
        if compared.get("kernels"):
            moved = ", ".join(f"`{key}` in {number}" for key, number in compared["kernels"].items())
            lines.append(f"- {name}, metrics of PyTorch's kernels: {moved} of {compared['cases']} cases")
    if "warnings" in row:
        lines += _failed("examples with warnings as errors", row["warnings"])
    for writer, found in row.get("upgrades", {}).items():
        lines += _failed(f"baseline of PyTorch {writer}", found)
        if found.get("moved"):
            lines.append(
                f"- baseline of PyTorch {writer}: {found['moved']} values of PyTorch's kernels moved, none was judged"
            )
    kinds = defaultdict(list)
    for test, message in row["suite"].get("failed", {}).items():
        kinds[reason_of(test, message)].append(test.removeprefix("tests."))
    for reason, tests in kinds.items():
        more = f" and {len(tests) - _NAMED} more" if len(tests) > _NAMED else ""
        lines.append(f"- failed, {reason}: {', '.join(f'`{_escaped(test)}`' for test in tests[:_NAMED])}{more}")
    for reason, number in row["suite"].get("skipped", {}).items():
        lines.append(f"- skipped, {_escaped(reason) or 'without a reason'}: {number}")
    return "\n".join([f"### What differs: {row['name']}", "", *lines]) if lines else ""


def _failed(check: str, found: dict[str, Any]) -> list[str]:
    if "error" in found:
        return [f"- {check}: the run ended early"]
    return [f"- {check}, `{_escaped(test)}`: {_escaped(message)}" for test, message in found["failed"].items()]


def _escaped(found: str) -> str:
    return found.replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
