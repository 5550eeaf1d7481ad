"""What a team writes in ``[tool.pytest-flopsbudget]`` and in markers, as checked data."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from pytest_flopsbudget.config.prescan import FILE
from pytest_flopsbudget.hardware import catalog as known_devices
from pytest_flopsbudget.identifiers import matches_pattern
from pytest_flopsbudget.quantities.metrics import METRICS, Amount
from pytest_flopsbudget.quantities.tolerance import Tolerance

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_flopsbudget.hardware.profile import Device


Reaction = Literal["fail", "warn", "ignore"]
Improvement = Literal["pass", "fail"]
Switch = Literal["on", "off"]
OnGitHub = Literal["auto", "off"]

#: What a clock measures is never twice the same.
LATENCY_TOLERANCE = Tolerance(relative=Fraction(1, 10))


@dataclass(frozen=True, slots=True)
class Budget:
    """One set of limits, and where it was written."""

    #: "pyproject.toml, [[tool.pytest-flopsbudget.budgets]] 2", "marker on test_backbone": for messages.
    source: str
    #: Metric key → most allowed for the whole model, or the least where more is better. A time's key carries the name
    #: of the device, "time[A100]"; a latency's none, as it holds on whichever machine measures.
    limits: Mapping[str, Amount] = field(default_factory=dict)
    #: Pattern of module paths → metric key → the same for every module that matches.
    modules: Mapping[str, Mapping[str, Amount]] = field(default_factory=dict)
    #: "forward", "backward" or "optimizer" → metric key → the same for the work of that phase.
    phases: Mapping[str, Mapping[str, Amount]] = field(default_factory=dict)
    #: Metric key → growth over the baseline that still passes, for the metrics it was given for.
    tolerance: Mapping[str, Tolerance] = field(default_factory=dict)
    #: Patterns of the node ids it holds for; empty where it holds without a pattern.
    match: tuple[str, ...] = ()


def exact_tolerances() -> Mapping[str, Tolerance]:
    """Return the default: no growth for any metric, but for latency, which no two runs measure alike."""
    return {**dict.fromkeys(METRICS, Tolerance()), "latency": LATENCY_TOLERANCE}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the pyproject says, with defaults for what it does not."""

    #: The file; None where there is none, or none with a table of this plugin.
    path: Path | None = None
    #: What holds for every measurement.
    limits: Budget | None = None
    #: What holds for the tests that match, in the order of the file.
    budgets: tuple[Budget, ...] = ()
    #: Metric key → growth over the baseline that still passes, for every metric.
    tolerance: Mapping[str, Tolerance] = field(default_factory=exact_tolerances)
    #: What a measurement without a baseline does.
    missing_baseline: Reaction = "warn"
    #: What an operator that no formula covers does.
    unknown_operators: Reaction = "warn"
    #: What a measurement below its baseline does.
    improved_baseline: Improvement = "pass"
    #: Operators that count nothing here, as "namespace::name".
    free_operators: tuple[str, ...] = ()
    #: The metric that summaries and tables show first.
    show: str = "flops"
    #: "auto": on GitHub Actions, write to the job's summary and annotate the tests.
    github: OnGitHub = "off"
    #: Whether what was measured becomes properties of the tests in JUnit reports.
    junit_properties: Switch = "on"
    #: "off" asks PyTorch about every call of every operator, which is slow and counts the same: for bug reports.
    reuse_answers: Switch = "on"
    #: Patterns of the node ids of tests that are watched, marked or not.
    watch: tuple[str, ...] = ()
    #: Names of the devices for which the time of every measurement is estimated.
    time_on: tuple[str, ...] = ()
    #: Name → profile of a device, of the project's own ones.
    devices: Mapping[str, Device] = field(default_factory=dict)
    #: What the machine that measures latencies is called; None for the name of its hardware.
    machine: str | None = None
    #: Nanoseconds for which a model is run to measure its latency, at least.
    latency_run_time: int = 10**9

    def watches(self, nodeid: str) -> bool:
        """Whether the test ``nodeid`` is watched without a marker."""
        return any(matches_pattern(nodeid, pattern) for pattern in self.watch)

    def budgets_for(self, nodeid: str) -> tuple[Budget, ...]:
        """The budgets that hold for the test ``nodeid``, the closest last."""
        everywhere = () if self.limits is None else (self.limits,)
        matching = (b for b in self.budgets if any(matches_pattern(nodeid, pattern) for pattern in b.match))
        return (*everywhere, *matching)


def find_device(settings: Settings, name: str) -> Device:
    """The device that is called ``name``, in whatever case: one of the project's own, or a known one.

    Raises:
        ValueError: there is none. The message names what is near and all that there are.
    """
    return known_devices.find_device(name, settings.devices)


def describe(settings: Settings) -> str:
    """One line on what the pyproject holds: "pyproject.toml: 3 budgets, limits on params"."""
    parts = []
    if settings.budgets:
        parts.append("1 budget" if len(settings.budgets) == 1 else f"{len(settings.budgets)} budgets")
    if settings.limits is not None:
        limited = [*settings.limits.limits, *(f"modules {pattern}" for pattern in settings.limits.modules)]
        limited += [f"phase {phase}" for phase in settings.limits.phases]
        parts.append(f"limits on {', '.join(limited)}")
    if settings.watch:
        parts.append(f"watches {', '.join(settings.watch)}")
    if settings.time_on:
        parts.append(f"estimates time on {', '.join(settings.time_on)}")
    return f"{FILE}: {', '.join(parts)}" if parts else f"no budgets in {FILE}"
