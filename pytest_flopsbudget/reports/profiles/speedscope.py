"""Measurements in the file format of https://www.speedscope.app: a profile for each measurement and metric."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.quantities.metrics import metric_of, title_of
from pytest_flopsbudget.reports.profiles.stacks import stacks
from pytest_flopsbudget.results.module_tree import ADDING
from pytest_flopsbudget.safe_text import visible
from pytest_flopsbudget.versions import own_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flopsbudget.results.complexity import Complexity

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
#: Unit of a metric → its name in speedscope, for the units that speedscope knows.
_UNITS = {"bytes": "bytes", "ns": "nanoseconds"}


def text(measurements: Sequence[tuple[str, Complexity]], first: str) -> str:
    """Return the JSON of a speedscope file. A frame is a module: its name in its parent, and its class.

    Args:
        measurements: label and measurement.
        first: the metric of the profile that speedscope shows first. The other metrics that add up over modules follow.

    Raises:
        UsageError: a measurement has no sum of the metric ``first`` over modules.
    """
    numbers: dict[str, int] = {}
    profiles = [
        _profile(label, complexity, key, numbers)
        for label, complexity in measurements
        for key in _keys(complexity, first)
    ]
    document = {
        "$schema": _SCHEMA,
        "exporter": f"pytest-flopsbudget {own_version()}",
        "name": ", ".join(visible(label) for label, _ in measurements),
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": name} for name in numbers]},
        "profiles": profiles,
    }
    return json.dumps(document, separators=(",", ":"))


def _keys(complexity: Complexity, first: str) -> list[str]:
    keys = [key for key, value in complexity.metrics.items() if value and metric_of(key).aggregation in ADDING]
    return [first, *(key for key in keys if key != first)]


def _profile(label: str, complexity: Complexity, key: str, numbers: dict[str, int]) -> dict[str, Any]:
    samples, weights = [], []
    for stack in stacks(complexity, key):
        names = [
            frame.name if frame.kind in {"", frame.name} else f"{frame.name} ({frame.kind})" for frame in stack.frames
        ]
        samples.append([numbers.setdefault(name, len(numbers)) for name in names])
        weights.append(stack.value)
    return {
        "type": "sampled",
        "name": f"{visible(label)}: {title_of(key)}",
        "unit": _UNITS.get(metric_of(key).unit, "none"),
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }
