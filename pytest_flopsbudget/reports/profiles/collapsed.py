"""Measurements as collapsed stacks, the text format of flamegraph.pl, inferno and speedscope."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.reports.profiles.stacks import stacks
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flopsbudget.results.complexity import Complexity


def text(measurements: Sequence[tuple[str, Complexity]], key: str) -> str:
    """Return a line for each module: ``Net;layer1;conv 4096``, the names from the model inwards, then its own value.

    Args:
        measurements: label and measurement. If there are several, the label is the outermost name of each line.
        key: the metric.

    Raises:
        UsageError: a measurement has no sum of this metric over modules.
    """
    lines = []
    for label, complexity in measurements:
        outer = [visible(label)] if len(measurements) > 1 else []
        for stack in stacks(complexity, key):
            names = [*outer, *(frame.name for frame in stack.frames)]
            # A semicolon separates names, and the last blank separates the value.
            lines.append(f"{';'.join(name.replace(';', ',') for name in names)} {stack.value}\n")
    return "".join(lines)
