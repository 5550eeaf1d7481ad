"""Write docs/zoo.md from the stored results."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from model_zoo import results
from peers.table import between_markers, markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from model_zoo.results import Row

PAGE = Path(__file__).parent.parent / "zoo.md"
#: How the texts of `check.py` begin, by what they mean.
EQUAL, NO_FORMULA, NEEDS_DATA, NOT_BUILT = "equal", "no formula for ", "needs data", "not built on shapes"


def write() -> None:
    PAGE.write_text(between_markers(PAGE.read_text(encoding="utf-8"), text(results.load())), encoding="utf-8")


def text(rows: list[Row]) -> str:
    """Return the part of the page that is made from the results."""
    counted = [row for row in rows if results.is_counted(row)]
    parts = [
        "## Summary",
        _summary(rows),
        "## Exceptions",
        "### An error, or operators that no formula covers",
        _reasons(rows, lambda row: row.get("error", "") or ", ".join(row.get("unknown", ()))),
        "### Counted on data instead of shapes",
        _reasons(counted, lambda row: " ".join(row.get("notes", ())) if row["execution"] == "real" else ""),
        "### Other notes of the counter",
        _reasons(counted, lambda row: " ".join(row.get("notes", ())) if row["execution"] != "real" else ""),
        "### Not built on shapes, needs data on meta, or counted differently there",
        _reasons(counted, lambda row: "" if row["meta"] == EQUAL else row["meta"]),
        "### Not equal to `FlopCounterMode`",
        _reasons(counted, lambda row: "" if row["counter"] == EQUAL else row["counter"]),
        "### Not built, or no inputs that fit",
        _reasons(rows, lambda row: "" if results.is_counted(row) or "error" in row else _skipped(row)),
    ]
    return "\n\n".join(parts)


def _summary(rows: Iterable[Row]) -> str:
    by_library: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_library[row["library"]].append(row)
    header = [
        "library", "tried", "counted", "on shapes", "on data", "an error", "unknown operators", "equal on meta",
        "equal to `FlopCounterMode`", "equal without operators that it has no formula for", "not built",
    ]  # fmt: skip
    return markdown(header, [[library, *_numbers(group)] for library, group in by_library.items()])


def _numbers(group: list[Row]) -> list[str]:
    counted = [row for row in group if results.is_counted(row)]

    def number(fits: Callable[[Row], bool]) -> str:
        return str(sum(map(fits, counted)))

    errors = sum("error" in row for row in group)
    return [
        str(len(group)),
        str(len(counted)),
        number(lambda row: row["execution"] == "shapes"),
        number(lambda row: row["execution"] == "real"),
        str(errors),
        number(lambda row: bool(row.get("unknown"))),
        number(lambda row: row["meta"].endswith(EQUAL)),
        number(lambda row: row["counter"] == EQUAL),
        number(lambda row: row["counter"].startswith(NO_FORMULA)),
        str(len(group) - len(counted) - errors),
    ]


def _skipped(row: Row) -> str:
    return "; ".join(row.get("skipped", ())[:2]) or "no inputs are made for it"


def _reasons(rows: Iterable[Row], reason: Callable[[Row], str]) -> str:
    """Return a Markdown list of the reasons, each with its models. Rows whose reason is "" are left out."""
    names: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if why := reason(row):
            names[_line(why)].append(f"{row['library']} {row['name']}")
    if not names:
        return "None."
    return "\n".join(f"- {', '.join(f'`{name}`' for name in models)}: {why}" for why, models in sorted(names.items()))


def _line(why: str) -> str:
    """Return a reason as one line without Markdown."""
    return " ".join(why.split()).replace("`", "'").replace("<", "&lt;").replace("*", "\\*").replace("|", "/")
