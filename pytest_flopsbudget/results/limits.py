"""Limits against measurements: which one holds, what exceeds it, and which says nothing about the model."""

from __future__ import annotations

import difflib
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec

from pytest_flopsbudget.results.metrics import METRICS, measured_value
from pytest_flopsbudget.settings import matches_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.settings import Budget, Settings
    from pytest_flopsbudget.units import Tolerance

_NEAR_NAMES = 3


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most that a metric may be, in its own unit."""

    most: int
    #: Where it was written.
    source: str


class Effective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits that hold for one measurement, after the closer ones replaced the farther ones."""

    #: Metric key → limit of the whole model.
    limits: dict[str, Limit] = {}
    #: Pattern of module paths → metric key → limit of every module that matches.
    modules: dict[str, dict[str, Limit]] = {}
    #: Phase → metric key → limit of its work.
    phases: dict[str, dict[str, Limit]] = {}


class Violation(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """A limit that was exceeded."""

    metric: str
    #: Path of the module; None for the whole model.
    module: str | None
    measured: int
    limit: int
    #: Where the limit was written.
    source: str
    #: "forward", "backward", "optimizer"; None for all of them together.
    phase: str | None = None

    @property
    def excess(self) -> int:
        """By how much, in the metric's own unit."""
        return self.measured - self.limit


class Unmeasured(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """A limit on a metric that the measurement does not hold, so nothing says that it is kept."""

    metric: str
    #: The pattern of module paths, as written; None for the whole model.
    module: str | None
    source: str
    #: The phase that there was none of; None for all of them together.
    phase: str | None = None


class UnmatchedPattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pattern of module paths that matches no module of the model."""

    pattern: str
    source: str
    #: Module paths that may have been meant, the likeliest first.
    near: tuple[str, ...] = ()


class Share(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of a limit is used."""

    metric: str
    measured: int
    limit: int
    source: str

    @property
    def fraction(self) -> float:
        """1.0 is all of it; a limit of 0 is used up by 0 and exceeded without end by more."""
        return float(_used(self.measured, self.limit))


def merge(budgets: Sequence[Budget]) -> Effective:
    """The limits that hold where ``budgets`` meet, the closest last: it wins, metric by metric.

    FLOPs and MACs are one quantity: a closer limit on either replaces farther ones on both. Limits of modules are
    compared per pattern, as written; different patterns hold side by side.
    """
    limits: dict[str, Limit] = {}
    modules: dict[str, dict[str, Limit]] = {}
    phases: dict[str, dict[str, Limit]] = {}
    for budget in budgets:
        limits = _replaced(limits, budget.limits, budget.source)
        for pattern, closer in budget.modules.items():
            modules[pattern] = _replaced(modules.get(pattern, {}), closer, budget.source)
        for phase, closer in budget.phases.items():
            phases[phase] = _replaced(phases.get(phase, {}), closer, budget.source)
    return Effective(limits, modules, phases)


def tolerance_for(budgets: Sequence[Budget], settings: Settings) -> Mapping[str, Tolerance]:
    """Metric key → tolerance where ``budgets`` meet, for every metric; the closest is last and wins."""
    tolerances = dict(settings.tolerance)
    for budget in budgets:
        tolerances.update(budget.tolerance)
    return tolerances


def check(complexity: Complexity, effective: Effective) -> list[Violation | Unmeasured]:
    """What keeps ``complexity`` from being within its limits: the model, its modules, its phases."""
    return [
        *_check_model(complexity, effective.limits),
        *_check_modules(complexity, effective.modules),
        *_check_phases(complexity, effective.phases),
    ]


def unmatched(complexity: Complexity, effective: Effective) -> list[UnmatchedPattern]:
    """The patterns that match no module, once for each place that they are written in."""
    found = []
    for pattern, limits in effective.modules.items():
        if not _matching(complexity, pattern):
            near = _near_paths(complexity, pattern)
            sources = dict.fromkeys(limit.source for limit in limits.values())
            found += [UnmatchedPattern(pattern=pattern, source=source, near=near) for source in sources]
    return found


def share(complexity: Complexity, effective: Effective) -> Share | None:
    """The limit of the whole model that is used up most; None where none is set on what was measured."""
    shares = []
    for metric, limit in _in_order(effective.limits):
        measured = measured_value(complexity.metrics, metric)
        if measured is not None:
            shares.append(Share(metric=metric, measured=measured, limit=limit.most, source=limit.source))
    return max(shares, key=lambda one: _used(one.measured, one.limit), default=None)


def _quantity(metric: str) -> str:
    derived = METRICS[metric].derived
    return derived[0] if len(derived) == 1 else metric


def _replaced(farther: Mapping[str, Limit], closer: Mapping[str, int], source: str) -> dict[str, Limit]:
    quantities = {_quantity(metric) for metric in closer}
    kept = {metric: limit for metric, limit in farther.items() if _quantity(metric) not in quantities}
    return kept | {metric: Limit(most, source) for metric, most in closer.items()}


def _in_order(limits: Mapping[str, Limit]) -> list[tuple[str, Limit]]:
    return [(metric, limits[metric]) for metric in METRICS if metric in limits]


def _check_model(complexity: Complexity, limits: Mapping[str, Limit]) -> Iterator[Violation | Unmeasured]:
    for metric, limit in _in_order(limits):
        measured = measured_value(complexity.metrics, metric)
        if measured is None:
            yield Unmeasured(metric=metric, module=None, source=limit.source)
        elif measured > limit.most:
            yield Violation(metric=metric, module=None, measured=measured, limit=limit.most, source=limit.source)


def _check_modules(
    complexity: Complexity, patterns: Mapping[str, Mapping[str, Limit]]
) -> Iterator[Violation | Unmeasured]:
    for pattern, limits in patterns.items():
        paths = _matching(complexity, pattern)
        for metric, limit in _in_order(limits):
            values = {path: measured_value(complexity.modules[path].metrics, metric) for path in paths}
            if None in values.values():
                yield Unmeasured(metric=metric, module=pattern, source=limit.source)
            for path, value in values.items():
                if value is not None and value > limit.most:
                    yield Violation(metric=metric, module=path, measured=value, limit=limit.most, source=limit.source)


def _check_phases(
    complexity: Complexity, phases: Mapping[str, Mapping[str, Limit]]
) -> Iterator[Violation | Unmeasured]:
    for phase, limits in phases.items():
        metrics = complexity.work_of(phase)
        for metric, limit in _in_order(limits):
            measured = None if metrics is None else measured_value(metrics, metric)
            if measured is None:
                yield Unmeasured(metric=metric, module=None, source=limit.source, phase=phase)
            elif measured > limit.most:
                yield Violation(
                    metric=metric, module=None, measured=measured, limit=limit.most, source=limit.source, phase=phase
                )


def _matching(complexity: Complexity, pattern: str) -> list[str]:
    # The model itself has limits of its own; "*" is about what is inside it.
    return [path for path in complexity.modules if matches_pattern(path, pattern) and (path or not pattern)]


def _near_paths(complexity: Complexity, pattern: str) -> tuple[str, ...]:
    paths = [path for path in complexity.modules if path]
    # The likeliest slip is a module's own name instead of its path.
    ends = [path for path in paths if matches_pattern(path, f"*.{pattern}")]
    return tuple(ends[:_NEAR_NAMES] or difflib.get_close_matches(pattern, paths, n=_NEAR_NAMES, cutoff=0.5))


def _used(measured: int, limit: int) -> Fraction | float:
    if limit:
        return Fraction(measured, limit)
    return math.inf if measured else 1.0
