"""Store the results in a file. The file is written after each process, so that an interruption loses nothing."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

FILE = Path(__file__).parent / "results.json"
#: Times are rounded to microseconds, the resolution of the clock here.
_DIGITS = 6


@dataclass
class Pair:
    """The results of a runner on a model. Each list has one entry for each round."""

    #: Seconds of the first call in each process, and of the second call for runners that measure it.
    first: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    #: Bytes by which each process grew.
    memory: list[int] = field(default_factory=list)
    #: The verdict on the number; empty if there is no number to judge.
    verdict: str = ""
    #: Seconds that each process took in total.
    processes: list[float] = field(default_factory=list)


@dataclass
class Depth:
    """The times of a count for several numbers of layers, as {number of layers: seconds of each round}."""

    first: dict[str, list[float]] = field(default_factory=dict)
    again: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Alone:
    """The times of a count of all metrics and of a count of FLOPs alone."""

    #: Shortest processor times: all metrics and FLOPs alone without remembered answers; then both with them.
    seconds: list[float] = field(default_factory=list)

    @property
    def first(self) -> float:
        """Return (time of all metrics) / (time of FLOPs alone), both without remembered answers."""
        return self.seconds[0] / self.seconds[1]

    @property
    def again(self) -> float:
        """Return (time of all metrics) / (time of FLOPs alone), both with remembered answers."""
        return self.seconds[2] / self.seconds[3]


@dataclass
class LawTimes:
    """The times of a growth law, and of a second count of the same model before it."""

    #: The number of counts that the law rests on.
    counts: int = 0
    #: Seconds of processor time in each turn.
    law: list[float] = field(default_factory=list)
    count: list[float] = field(default_factory=list)

    @property
    def times(self) -> float:
        """Return the median over the turns of (time of the law) / (time of the count)."""
        return median(law / count for law, count in zip(self.law, self.count, strict=True))


@dataclass
class Startup:
    """Times of a pytest run without marked tests."""

    with_plugin: list[float] = field(default_factory=list)
    without: list[float] = field(default_factory=list)
    #: Seconds that the import of the plugin takes, by Python's own timing, for each run.
    imports: list[float] = field(default_factory=list)
    #: Packages that were loaded although they must not be.
    loaded: list[str] = field(default_factory=list)


@dataclass
class Suite:
    """A run of many tests that measure one small model. The times are seconds per test."""

    tests: int = 0
    #: Tests with a budget, and tests without a budget that call ``measure``.
    with_budget: list[float] = field(default_factory=list)
    direct: list[float] = field(default_factory=list)
    #: The count itself, in the tests that call ``measure``.
    count: list[float] = field(default_factory=list)
    #: Bytes by which each process grew between the first tenth of the tests and the last test. pytest itself keeps
    #: some data of every test.
    growth_with_budget: list[int] = field(default_factory=list)
    growth_direct: list[int] = field(default_factory=list)


@dataclass
class Results:
    machine: dict[str, str] = field(default_factory=dict)
    rounds: int = 0
    models: dict[str, dict[str, Pair]] = field(default_factory=dict)
    alone: dict[str, Alone] = field(default_factory=dict)
    #: Sizes → the law in these sizes.
    laws: dict[str, LawTimes] = field(default_factory=dict)
    depth: Depth = field(default_factory=Depth)
    startup: Startup = field(default_factory=Startup)
    suite: Suite = field(default_factory=Suite)

    def pair(self, model: str, runner: str) -> Pair:
        return self.models.setdefault(model, {}).setdefault(runner, Pair())


def load(file: Path) -> Results:
    """Read the results. If the file does not exist, return empty results."""
    if not file.exists():
        return Results()
    data: dict[str, Any] = json.loads(file.read_text())
    return Results(
        machine=data["machine"],
        rounds=data["rounds"],
        models={model: {name: Pair(**pair) for name, pair in pairs.items()} for model, pairs in data["models"].items()},
        alone={model: Alone(**alone) for model, alone in data.get("alone", {}).items()},
        laws={sizes: LawTimes(**found) for sizes, found in data.get("laws", {}).items()},
        depth=Depth(**data["depth"]),
        startup=Startup(**data["startup"]),
        suite=Suite(**data["suite"]),
    )


def save(results: Results, file: Path) -> None:
    """Replace the file in one step, so that an interruption leaves the old file."""
    beside = file.with_suffix(".partial")
    beside.write_text(to_json(results))
    beside.replace(file)


def to_json(results: Results) -> str:
    """Return the results as JSON with one line for each list."""
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
