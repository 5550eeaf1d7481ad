"""Phrases, commands and signs that all reports share."""

from __future__ import annotations

import shlex

from pytest_flopsbudget.quantities.formatting import (
    bound_sign,
    bound_words,
    format_delta,
    format_pair,
    format_percent,
    format_value,
)
from pytest_flopsbudget.quantities.metrics import Amount, metric_of


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
    """Return whether values of ``metric`` are estimates, which are bounds. Reports mark estimates."""
    return metric_of(metric).per == "device"


def mark_estimate(words: str, metric: str) -> str:
    """Return ``words`` about a value of ``metric``. An estimate is marked: "at least 1.31 ms (estimate)"."""
    return f"{bound_words(metric_of(metric))} {words} (estimate)" if is_estimate(metric) else words


def estimate_sign(metric: str) -> str:
    """Return the sign before an estimate: ">=" for a lower bound, "<=" for an upper bound; empty for other values."""
    if not is_estimate(metric):
        return ""
    return bound_sign(metric_of(metric))


def format_growth(delta: Amount, metric: str) -> str:
    """Format a difference with its unit: "+411 MFLOPs"."""
    unit = metric_of(metric)
    text = format_delta(delta, unit)
    return f"{text} {unit.title}" if unit.unit == "count" else text


def prune_command(*paths: str) -> str:
    """Return the command that removes baseline entries without a test; for ``paths``, see `update_command`."""
    return " ".join(["pytest --flops-budget-prune", *map(shlex.quote, paths)])


def rename_command(old: str, new: str) -> str:
    """Return the command that moves a baseline entry to another node id."""
    return f"flopsbudget rename {shlex.quote(old)} {shlex.quote(new)}"
