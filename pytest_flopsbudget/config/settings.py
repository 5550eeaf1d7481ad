"""The settings and budgets of ``[tool.pytest-flopsbudget]`` and of markers, as checked data."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from pytest_flopsbudget.config.prescan import FILE
from pytest_flopsbudget.hardware import catalog as known_devices
from pytest_flopsbudget.identifiers import selects_test
from pytest_flopsbudget.quantities.metrics import HELD_BY_DEFAULT, METRICS
from pytest_flopsbudget.quantities.tolerance import Tolerance

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.laws.algebra.formula import Formula
    from pytest_flopsbudget.laws.algebra.orders import Order
    from pytest_flopsbudget.quantities.bounds import Bounds


Reaction = Literal["fail", "warn", "ignore"]
Improvement = Literal["pass", "fail"]
Switch = Literal["on", "off"]
ShapesMode = Literal["preferred", "only"]
OnGitHub = Literal["auto", "off"]

#: The default tolerance of latency. Latency needs a tolerance, because no two runs take exactly the same time.
LATENCY_TOLERANCE = Tolerance(relative=Fraction(1, 10))


@dataclass(frozen=True, slots=True)
class Budget:
    """One set of limits, and its place in a file or a marker."""

    #: The place for messages: "pyproject.toml, [[tool.pytest-flopsbudget.budgets]] 2", "marker on test_backbone".
    source: str
    #: Metric key → limit of the whole model. The key of a time names its device, "time[A100]". The key of a latency
    #: names no machine, because the limit applies on every machine.
    limits: Mapping[str, Bounds] = field(default_factory=dict)
    #: Pattern of module paths → metric key → limit for every module that matches.
    modules: Mapping[str, Mapping[str, Bounds]] = field(default_factory=dict)
    #: Pattern of operators, such as "aten.mm" → metric key → limit for all calls of every operator that matches.
    operators: Mapping[str, Mapping[str, Bounds]] = field(default_factory=dict)
    #: "forward", "backward" or "optimizer" → metric key → limit for the work of that phase.
    phases: Mapping[str, Mapping[str, Bounds]] = field(default_factory=dict)
    #: Metric key → symbol of a law → the largest order of growth with this symbol.
    growth: Mapping[str, Mapping[str, Order]] = field(default_factory=dict)
    #: Pattern of module paths → metric key → symbol of a law → the largest order of growth with this symbol.
    module_growth: Mapping[str, Mapping[str, Mapping[str, Order]]] = field(default_factory=dict)
    #: Metric key → the formula. The law of the metric has to be equal to it, or at most as large.
    formulas: Mapping[str, Formula] = field(default_factory=dict)
    #: Pattern of names of measurements → the limits only for the measurements of the test whose name matches.
    measurements: Mapping[str, Budget] = field(default_factory=dict)
    #: Metric key → allowed growth over the baseline. Other metrics keep the tolerance of the settings.
    tolerance: Mapping[str, Tolerance] = field(default_factory=dict)
    #: The metrics to which ``tolerance`` gives a tolerance by name. The baseline holds them.
    tolerated: tuple[str, ...] = ()
    #: The metrics that the baseline holds; None for the metrics of the settings or of a less close budget.
    hold: tuple[str, ...] | None = None
    #: Patterns of the node ids of the tests that the budget limits; empty for a marker and for the table ``limits``.
    match: tuple[str, ...] = ()


def exact_tolerances() -> Mapping[str, Tolerance]:
    """Return metric key → default tolerance. Only the latency may grow, because measured times vary."""
    return {**dict.fromkeys(METRICS, Tolerance()), "latency": LATENCY_TOLERANCE}


@dataclass(frozen=True, slots=True)
class AnchorSetting:
    """An earlier revision, over whose baselines costs may grow by a second tolerance."""

    #: A tag, a branch or a commit of the repository.
    revision: str
    #: Metric key → allowed growth over the baseline of the revision, for every metric.
    tolerance: Mapping[str, Tolerance]
    #: The place of the setting, for messages: "pyproject.toml: [tool.pytest-flopsbudget] anchor".
    source: str


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in the pyproject. Missing keys have their defaults."""

    #: The path of the file; None if there is no file, or if the file has no table of this plugin.
    path: Path | None = None
    #: The name of the file in messages: its path relative to pytest's root folder.
    file: str = FILE
    #: Those keys of the file's table whose settings apply to a whole run.
    keys_of_run: tuple[str, ...] = field(default=(), compare=False)
    #: The limits for every measurement.
    limits: Budget | None = None
    #: Metric key → limit on the sum over all measurements of a run.
    total: Mapping[str, Bounds] = field(default_factory=dict)
    #: The limits for tests that match a pattern, in the order of the file.
    budgets: tuple[Budget, ...] = ()
    #: Metric key → allowed growth over the baseline, for every metric.
    tolerance: Mapping[str, Tolerance] = field(default_factory=exact_tolerances)
    #: The metrics that baselines hold: a test fails if one of them grows. Other metrics are recorded and shown.
    hold: tuple[str, ...] = HELD_BY_DEFAULT
    #: The reaction to a measurement without a baseline.
    missing_baseline: Reaction = "warn"
    #: The reaction to an operator without a formula.
    unknown_operators: Reaction = "warn"
    #: Whether a test passes if its measurement is below its baseline.
    improved_baseline: Improvement = "pass"
    #: The earlier revision over which the sum of all growth is limited; None for no such limit.
    anchor: AnchorSetting | None = None
    #: Operators that count zero FLOPs in this project, as "namespace::name".
    free_operators: tuple[str, ...] = ()
    #: The metric that summaries and tables show first.
    show: str = "flops"
    #: Whether to write to the job's summary and annotate tests. "auto" does so on GitHub Actions.
    github: OnGitHub = "off"
    #: Whether measurements become properties of the tests in JUnit reports.
    junit_properties: Switch = "on"
    #: Whether a model that cannot be counted on shapes alone runs on data or raises an error.
    shapes: ShapesMode = "preferred"
    #: Whether the metadata of earlier calls of operators is used again. Switching this off helps with bug reports.
    reuse_answers: Switch = "on"
    #: Patterns of the node ids of tests that are watched, even if they have no marker.
    watch: tuple[str, ...] = ()
    #: Names of the devices for which the time of every measurement is estimated.
    time_on: tuple[str, ...] = ()
    #: Name → the project's own device profile.
    devices: Mapping[str, Device] = field(default_factory=dict)
    #: The name of the machine that measures latencies; None for the name of its hardware.
    machine: str | None = None
    #: The shortest time, in nanoseconds, for which a model is run to measure its latency.
    latency_run_time: int = 10**9

    def watches(self, nodeid: str) -> bool:
        """Return whether the setting ``watch`` matches the test ``nodeid``."""
        return any(selects_test(nodeid, pattern) for pattern in self.watch)

    def budgets_for(self, nodeid: str) -> tuple[Budget, ...]:
        """Return the budgets for the test ``nodeid``. A limit of a later budget replaces limits of earlier budgets."""
        everywhere = () if self.limits is None else (self.limits,)
        matching = (b for b in self.budgets if any(selects_test(nodeid, pattern) for pattern in b.match))
        return (*everywhere, *matching)


def find_device(settings: Settings, name: str) -> Device:
    """Return the device called ``name``: the project's own profile, or one of the catalog. Case does not matter.

    Raises:
        ValueError: no device has the name. The message suggests the nearest name and lists all names.
    """
    return known_devices.find_device(name, settings.devices)


def describe(settings: Settings) -> str:
    """Return one line on the settings: "pyproject.toml: 3 budgets, limits on params"."""
    parts = []
    if settings.budgets:
        parts.append("1 budget" if len(settings.budgets) == 1 else f"{len(settings.budgets)} budgets")
    if settings.limits is not None:
        limited = [*settings.limits.limits, *(f"modules {pattern}" for pattern in settings.limits.modules)]
        limited += [f"operators {pattern}" for pattern in settings.limits.operators]
        limited += [f"phase {phase}" for phase in settings.limits.phases]
        limited += [f"the growth of {metric}" for metric in settings.limits.growth]
        limited += settings.limits.formulas
        parts.append(f"limits on {', '.join(limited)}")
    if settings.total:
        parts.append(f"limits on the total of {', '.join(settings.total)}")
    if settings.watch:
        parts.append(f"watches {', '.join(settings.watch)}")
    if settings.time_on:
        parts.append(f"estimates time on {', '.join(settings.time_on)}")
    return f"{settings.file}: {', '.join(parts)}" if parts else f"{settings.file}: settings, no limits"
