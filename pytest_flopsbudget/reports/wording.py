"""Words and signs that all reports share."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.formatting import format_delta, format_pair, format_percent, format_value
from pytest_flopsbudget.quantities.metrics import Amount, metric_of

if TYPE_CHECKING:
    from pytest_flopsbudget.results.verdict import UpdateMode


_TIMES = re.compile(r"(?<=\d)x(?=\d)")


def can_show_signs(encoding: str | None) -> bool:
    """Whether a terminal of this encoding shows the signs that ASCII lacks; of None, nothing is known."""
    try:
        "\u2192\u00d7\u2026\u2500".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def use_signs(text: str) -> str:
    """``text`` with the signs that ASCII lacks: arrows and times."""
    return _TIMES.sub("\u00d7", text.replace("->", "\u2192"))


def format_amount(value: Amount, metric: str) -> str:
    """An amount with its unit: "8.178 GFLOPs", "25.56 M params"."""
    unit = metric_of(metric)
    text = format_value(value, unit)
    return f"{text} {unit.title}" if unit.unit == "count" else mark_estimate(text, metric)


def format_change(old: Amount, new: Amount, metric: str) -> str:
    """A change: "8.178 GFLOPs -> 8.589 GFLOPs, +411 MFLOPs (+5.0%)"; exact where the two would print alike."""
    before, after = format_pair(old, new, metric_of(metric))
    words = f"{before} -> {after}, {format_growth(new - old, metric)} ({format_percent(old, new)})"
    return mark_estimate(words, metric)


def is_estimate(metric: str) -> bool:
    """Whether values of ``metric`` are estimates, and lower bounds, so that readers have to be told."""
    return metric_of(metric).per == "device"


def mark_estimate(words: str, metric: str) -> str:
    """``words`` on a value of ``metric``, with what has to be said of estimates: "at least 1.31 ms (estimate)"."""
    return f"at least {words} (estimate)" if is_estimate(metric) else words


def format_growth(delta: Amount, metric: str) -> str:
    """A difference with its unit: "+411 MFLOPs"."""
    unit = metric_of(metric)
    text = format_delta(delta, unit)
    return f"{text} {unit.title}" if unit.unit == "count" else text


def update_command(nodeid: str | None = None, update_mode: UpdateMode | None = None) -> str:
    """What to type to accept what was measured, or only what is new or improved."""
    return (
        "pytest --flops-budget-update"
        + (f"={update_mode}" if update_mode else "")
        + (f" {shlex.quote(nodeid)}" if nodeid else "")
    )


def rename_command(old: str, new: str) -> str:
    """What to type to move a baseline entry from one node id to another."""
    return f"python -m pytest_flopsbudget rename {shlex.quote(old)} {shlex.quote(new)}"


def pluralize(number: int, noun: str) -> str:
    """A number of things: "1 test", "2 tests"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def visible(text: str) -> str:
    """``text`` on one line, without what cannot be seen and could steer a terminal."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
