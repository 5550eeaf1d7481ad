"""Phrases, commands and signs that all reports share."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.formatting import format_delta, format_pair, format_percent, format_value
from pytest_flopsbudget.quantities.metrics import Amount, metric_of

if TYPE_CHECKING:
    from pytest_flopsbudget.results.verdict import UpdateMode


#: The beginning of a command in the log of a CI system.
_COMMAND = re.compile(r"(?<!\S)::|##(?=\[|vso\[)")

_TIMES = re.compile(r"(?<=\d)x(?=\d)")


def can_show_signs(encoding: str | None) -> bool:
    """Return whether a terminal with this encoding shows signs beyond ASCII; False if it is None (unknown)."""
    try:
        "\u2192\u00d7\u2026\u2500".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def use_signs(text: str) -> str:
    """Return ``text`` with arrows and multiplication signs instead of their ASCII forms."""
    return _TIMES.sub("\u00d7", text.replace("->", "\u2192"))


def format_amount(value: Amount, metric: str) -> str:
    """Format an amount with its unit: "8.178 GFLOPs", "25.56 M params"."""
    unit = metric_of(metric)
    text = format_value(value, unit)
    return f"{text} {unit.title}" if unit.unit == "count" else mark_estimate(text, metric)


def format_change(old: Amount, new: Amount, metric: str) -> str:
    """Format a change: "8.178 GFLOPs -> 8.589 GFLOPs, +411 MFLOPs (+5.0%)". Values that would look equal are exact."""
    before, after = format_pair(old, new, metric_of(metric))
    words = f"{before} -> {after}, {format_growth(new - old, metric)} ({format_percent(old, new)})"
    return mark_estimate(words, metric)


def is_estimate(metric: str) -> bool:
    """Return whether values of ``metric`` are estimates, which are lower bounds. Reports mark estimates."""
    return metric_of(metric).per == "device"


def mark_estimate(words: str, metric: str) -> str:
    """Return ``words`` about a value of ``metric``. An estimate is marked: "at least 1.31 ms (estimate)"."""
    return f"at least {words} (estimate)" if is_estimate(metric) else words


def format_growth(delta: Amount, metric: str) -> str:
    """Format a difference with its unit: "+411 MFLOPs"."""
    unit = metric_of(metric)
    text = format_delta(delta, unit)
    return f"{text} {unit.title}" if unit.unit == "count" else text


def update_command(*paths: str, update_mode: UpdateMode | None = None) -> str:
    """Return the command that accepts measurements: all, or only the new or improved ones.

    Args:
        paths: node ids, files and folders to run, as typed in the folder where pytest was started; all tests if empty.
        update_mode: the measurements to accept; None for all.
    """
    return " ".join(
        ["pytest --flops-budget-update" + (f"={update_mode}" if update_mode else ""), *map(shlex.quote, paths)]
    )


def prune_command(*paths: str) -> str:
    """Return the command that removes baseline entries without a test; for ``paths``, see `update_command`."""
    return " ".join(["pytest --flops-budget-prune", *map(shlex.quote, paths)])


def rename_command(old: str, new: str) -> str:
    """Return the command that moves a baseline entry to another node id."""
    return f"python -m pytest_flopsbudget rename {shlex.quote(old)} {shlex.quote(new)}"


def pluralize(number: int, noun: str) -> str:
    """Format a number of things: "1 test", "2 tests"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def visible(text: str) -> str:
    """Return ``text`` on one line, safe to show. Names of tests and modules may contain any characters.

    Every name passes through this function before it is shown in a terminal, a log or a file for readers. The function
    escapes unprintable characters, which could control the terminal or hide text. It also escapes the signs by which
    GitHub Actions and Azure Pipelines find commands in a log: ``::error`` at the beginning of a line, and ``##[error]``
    anywhere. A text may be wrapped between words, so ``::`` is escaped at the beginning of every word.
    """
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
    return _COMMAND.sub(lambda found: f"\\x{ord(found[0][0]):02x}{found[0][1:]}", text)
