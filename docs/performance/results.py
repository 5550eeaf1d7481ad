"""What was measured, in a file: written after every process, so that a run that is cut off loses nothing."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "results.json"
#: Microseconds are as fine as a clock is here.
_DIGITS = 6


@dataclass
class Pair:
    """A runner on a model: an entry a round."""

    #: Seconds of the first call of each process, and of the second where it is of interest.
    first: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    #: Bytes by which each process grew.
    memory: list[int] = field(default_factory=list)
    #: What is to be said of the number; empty where there is none to judge.
    verdict: str = ""
    #: Seconds that each process took in all.
    processes: list[float] = field(default_factory=list)


@dataclass
class Depth:
    """A growing model: layers → seconds, an entry a round."""

    first: dict[str, list[float]] = field(default_factory=dict)
    again: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Alone:
    """The count of all metrics, and that of FLOPs alone."""

    #: Of processor time, the least: nothing remembered, all metrics and FLOPs alone; then both once more.
    seconds: list[float] = field(default_factory=list)

    @property
    def first(self) -> float:
        """How many times as long all metrics take where nothing is remembered."""
        return self.seconds[0] / self.seconds[1]

    @property
    def again(self) -> float:
        """How many times as long they take later."""
        return self.seconds[2] / self.seconds[3]


@dataclass
class Startup:
    """A pytest run without marked tests."""

    with_plugin: list[float] = field(default_factory=list)
    without: list[float] = field(default_factory=list)
    #: Seconds that Python says the import of the plugin takes, a run each.
    imports: list[float] = field(default_factory=list)
    #: Those packages that must not be loaded and are.
    loaded: list[str] = field(default_factory=list)


@dataclass
class Suite:
    """A run of many tests that measure one small model. Seconds are those of a test."""

    tests: int = 0
    #: With a budget, and by calling ``measure`` in a test without one.
    with_budget: list[float] = field(default_factory=list)
    direct: list[float] = field(default_factory=list)
    #: The count itself, in the tests that call ``measure``.
    count: list[float] = field(default_factory=list)
    #: Bytes by which each of these processes grew between the first tenth of the tests and the last test. pytest keeps
    #: something of every test that it ran.
    growth_with_budget: list[int] = field(default_factory=list)
    growth_direct: list[int] = field(default_factory=list)


@dataclass
class Results:
    machine: dict[str, str] = field(default_factory=dict)
    rounds: int = 0
    models: dict[str, dict[str, Pair]] = field(default_factory=dict)
    alone: dict[str, Alone] = field(default_factory=dict)
    depth: Depth = field(default_factory=Depth)
    startup: Startup = field(default_factory=Startup)
    suite: Suite = field(default_factory=Suite)

    def pair(self, model: str, runner: str) -> Pair:
        return self.models.setdefault(model, {}).setdefault(runner, Pair())


def load(file: Path) -> Results:
    """What the file holds; nothing where there is none."""
    if not file.exists():
        return Results()
    data: dict[str, Any] = json.loads(file.read_text())
    return Results(
        machine=data["machine"],
        rounds=data["rounds"],
        models={model: {name: Pair(**pair) for name, pair in pairs.items()} for model, pairs in data["models"].items()},
        alone={model: Alone(**alone) for model, alone in data.get("alone", {}).items()},
        depth=Depth(**data["depth"]),
        startup=Startup(**data["startup"]),
        suite=Suite(**data["suite"]),
    )


def save(results: Results, file: Path) -> None:
    """Whole or not at all."""
    beside = file.with_suffix(".partial")
    beside.write_text(to_json(results))
    beside.replace(file)


def to_json(results: Results) -> str:
    """One line a list: a diff then shows what was measured anew."""
    text = json.dumps(_rounded(asdict(results)), indent=1, ensure_ascii=False)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
