"""Limits: which limits apply to a measurement, which are exceeded, and which match no module of the model."""

from __future__ import annotations

import difflib
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import msgspec

from pytest_flopsbudget.identifiers import matches_pattern
from pytest_flopsbudget.quantities.metrics import (
    Amount,
    base_of,
    devices_in,
    is_measured,
    measured_key,
    measured_value,
    metric_of,
    sort_metrics,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.config.settings import Budget, Settings
    from pytest_flopsbudget.quantities.tolerance import Tolerance
    from pytest_flopsbudget.results.complexity import Complexity

_NEAR_NAMES = 3


class Ratio(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exact ratio in lowest terms, in the form in which files store it."""

    #: The dividend.
    numerator: int
    #: The divisor, at least 1.
    denominator: Annotated[int, msgspec.Meta(ge=1)]


def to_number(amount: int | Ratio) -> Amount:
    """Return the stored amount as a Python number."""
    return Fraction(amount.numerator, amount.denominator) if isinstance(amount, Ratio) else amount


def to_stored(amount: Amount) -> int | Ratio:
    """Return a Python number in the form in which files store it."""
    return amount if isinstance(amount, int) else Ratio(amount.numerator, amount.denominator)


class Limit(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A limit on a metric, in the metric's unit: a maximum, or a minimum if more of the metric is better."""

    #: The maximum; null if the limit is a minimum.
    maximum: int | None
    #: The place where the limit was written.
    source: str
    #: The minimum; null if the limit is a maximum.
    minimum: Ratio | None = None

    @property
    def bound(self) -> Amount:
        """The extreme value that is still allowed."""
        return to_number(self.minimum) if self.minimum is not None else self.maximum or 0


def make_limit(metric: str, bound: Amount, source: str) -> Limit:
    """Return a limit on ``metric``; the value ``bound`` itself is allowed."""
    if metric_of(metric).better == "less":
        return Limit(math.floor(bound), source)
    return Limit(None, source, Ratio(bound.numerator, bound.denominator))


class EffectiveLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of one measurement. Limits of later budgets have already replaced limits of earlier budgets."""

    #: Metric key → limit of the whole model.
    limits: dict[str, Limit] = {}
    #: Pattern of module paths → metric key → limit of every module whose path matches.
    modules: dict[str, dict[str, Limit]] = {}
    #: Phase → metric key → limit of the work in this phase.
    phases: dict[str, dict[str, Limit]] = {}


class Violation(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """A limit that was exceeded."""

    metric: str
    #: Path of the module; None for the whole model.
    module: str | None
    measured: int | Ratio
    limit: int | Ratio
    #: The place where the limit was written.
    source: str
    #: "forward", "backward", "optimizer"; None for all phases together.
    phase: str | None = None

    @property
    def excess(self) -> Amount:
        """The amount by which the value is beyond the limit, in the metric's unit."""
        excess: Amount = to_number(self.measured) - to_number(self.limit)
        return excess if excess > 0 else -excess


class Unmeasured(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """A limit on a metric that was not measured. The limit cannot be checked."""

    metric: str
    #: The pattern of module paths, as written; None for the whole model.
    module: str | None
    source: str
    #: The phase that did not run; None for all phases together.
    phase: str | None = None


class UnmatchedPattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pattern of module paths that matches no module of the model."""

    pattern: str
    source: str
    #: Similar module paths, the most similar first.
    near: tuple[str, ...] = ()


class Share(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The share of a limit that is used."""

    metric: str
    measured: int | Ratio
    limit: int | Ratio
    source: str

    @property
    def used(self) -> Fraction | float:
        """The measured value divided by the limit; for a minimum, the limit divided by the measured value.

        For a divisor of 0, the result is 1 if the dividend is 0 too, else infinity.
        """
        measured, limit = to_number(self.measured), to_number(self.limit)
        return _used(measured, limit) if metric_of(self.metric).better == "less" else _used(limit, measured)


def merge_budgets(budgets: Sequence[Budget]) -> EffectiveLimits:
    """Merge budgets. A limit replaces the limits of earlier budgets on the same metric.

    FLOPs and MACs are one quantity: a limit on one of them replaces earlier limits on both. Times on different
    devices are different quantities. Limits of modules are merged per pattern. Limits of different patterns all apply.
    """
    limits: dict[str, Limit] = {}
    modules: dict[str, dict[str, Limit]] = {}
    phases: dict[str, dict[str, Limit]] = {}
    for budget in budgets:
        limits = _override(limits, budget.limits, budget.source)
        for pattern, closer in budget.modules.items():
            modules[pattern] = _override(modules.get(pattern, {}), closer, budget.source)
        for phase, closer in budget.phases.items():
            phases[phase] = _override(phases.get(phase, {}), closer, budget.source)
    return EffectiveLimits(limits, modules, phases)


def tolerance_for(budgets: Sequence[Budget], settings: Settings) -> Mapping[str, Tolerance]:
    """Return metric key → tolerance. A tolerance replaces those of earlier budgets and of ``settings``."""
    tolerances = dict(settings.tolerance)
    for budget in budgets:
        tolerances.update(budget.tolerance)
    return tolerances


def held_metrics(budgets: Sequence[Budget], settings: Settings) -> frozenset[str]:
    """Return the metrics that the baseline holds: those of the last budget with ``hold``, else those of ``settings``.

    Metrics to which the same or a later budget gives a tolerance by name are held too.
    """
    held = set(settings.hold)
    for budget in budgets:
        if budget.hold is not None:
            held = set(budget.hold)
        held.update(budget.tolerated)
    return frozenset(held)


def check_limits(complexity: Complexity, effective: EffectiveLimits) -> list[Violation | Unmeasured]:
    """Return the limits that are exceeded or cannot be checked, for the model, its modules and its phases."""
    return [
        *_check_model(complexity, effective.limits),
        *_check_modules(complexity, effective.modules),
        *_check_phases(complexity, effective.phases),
    ]


def find_unmatched(complexity: Complexity, effective: EffectiveLimits) -> list[UnmatchedPattern]:
    """Return the patterns that match no module. A pattern is returned once for each place where it is written."""
    found = []
    for pattern, limits in effective.modules.items():
        if not _matching(complexity, pattern):
            near = _near_paths(complexity, pattern)
            sources = dict.fromkeys(limit.source for limit in limits.values())
            found += [UnmatchedPattern(pattern=pattern, source=source, near=near) for source in sources]
    return found


def largest_share(complexity: Complexity, effective: EffectiveLimits) -> Share | None:
    """Return the largest used share of the model's limits; None if no measured metric has a limit."""
    shares = []
    for metric, limit in _in_order(effective.limits):
        measured = measured_value(complexity.metrics, metric)
        if measured is not None:
            share = Share(
                metric=metric, measured=to_stored(measured), limit=to_stored(limit.bound), source=limit.source
            )
            shares.append(share)
    return max(shares, key=lambda one: one.used, default=None)


def name_machine(effective: EffectiveLimits, complexity: Complexity) -> EffectiveLimits:
    """Return the limits, with the name of the measuring machine added to keys that need such a name and have none."""
    limits = {measured_key(complexity.metrics, metric): limit for metric, limit in effective.limits.items()}
    return msgspec.structs.replace(effective, limits=limits)


def drop_metrics(effective: EffectiveLimits, metrics: Collection[str]) -> EffectiveLimits:
    """Return ``effective`` without the limits of the whole model on ``metrics``."""
    limits = {metric: limit for metric, limit in effective.limits.items() if metric not in metrics}
    return msgspec.structs.replace(effective, limits=limits)


def limited_devices(budgets: Iterable[Budget]) -> tuple[str, ...]:
    """Return the devices whose times have a limit, sorted. A measurement has to estimate these times."""
    return tuple(devices_in(metric for budget in budgets for metric in _limited(budget)))


def limits_latency(budgets: Iterable[Budget]) -> bool:
    """Return whether a budget limits the latency. The latency then has to be measured."""
    return any(base_of(metric) == "latency" for budget in budgets for metric in budget.limits)


def asks_for_latency(budgets: Collection[Budget]) -> bool:
    """Return whether the latency has to be measured: a budget limits it, or has a tolerance for it.

    A tolerance that the pyproject sets for all measurements does not count. It applies to measurements that are timed
    for another reason.
    """
    return limits_latency(budgets) or any("latency" in budget.tolerance for budget in budgets)


def _limited(budget: Budget) -> Iterator[str]:
    for limits in (budget.limits, *budget.modules.values(), *budget.phases.values()):
        yield from limits


def _quantity(metric: str) -> str:
    derived = metric_of(metric).derived
    return derived[0] if len(derived) == 1 else metric


def _override(farther: Mapping[str, Limit], closer: Mapping[str, Amount], source: str) -> dict[str, Limit]:
    quantities = {_quantity(metric) for metric in closer}
    kept = {metric: limit for metric, limit in farther.items() if _quantity(metric) not in quantities}
    return kept | {metric: make_limit(metric, bound, source) for metric, bound in closer.items()}


def _in_order(limits: Mapping[str, Limit]) -> list[tuple[str, Limit]]:
    return [(metric, limits[metric]) for metric in sort_metrics(limits)]


def _exceeds(metric: str, measured: Amount, limit: Limit) -> bool:
    return measured > limit.bound if metric_of(metric).better == "less" else measured < limit.bound


def _violation(
    metric: str, measured: Amount, limit: Limit, *, module: str | None = None, phase: str | None = None
) -> Violation:
    return Violation(
        metric=metric,
        module=module,
        measured=to_stored(measured),
        limit=to_stored(limit.bound),
        source=limit.source,
        phase=phase,
    )


def _check_model(complexity: Complexity, limits: Mapping[str, Limit]) -> Iterator[Violation | Unmeasured]:
    for metric, limit in _in_order(limits):
        measured = measured_value(complexity.metrics, metric)
        if not is_measured(complexity.metrics, metric):
            yield Unmeasured(metric=metric, module=None, source=limit.source)
        elif measured is not None and _exceeds(metric, measured, limit):
            yield _violation(metric, measured, limit)


def _check_modules(
    complexity: Complexity, patterns: Mapping[str, Mapping[str, Limit]]
) -> Iterator[Violation | Unmeasured]:
    for pattern, limits in patterns.items():
        paths = _matching(complexity, pattern)
        for metric, limit in _in_order(limits):
            values = {path: measured_value(complexity.modules[path].metrics, metric) for path in paths}
            if not all(is_measured(complexity.modules[path].metrics, metric) for path in paths):
                yield Unmeasured(metric=metric, module=pattern, source=limit.source)
            for path, value in values.items():
                if value is not None and _exceeds(metric, value, limit):
                    yield _violation(metric, value, limit, module=path)


def _check_phases(
    complexity: Complexity, phases: Mapping[str, Mapping[str, Limit]]
) -> Iterator[Violation | Unmeasured]:
    for phase, limits in phases.items():
        metrics = complexity.work_of(phase)
        for metric, limit in _in_order(limits):
            measured = None if metrics is None else measured_value(metrics, metric)
            if metrics is None or not is_measured(metrics, metric):
                yield Unmeasured(metric=metric, module=None, source=limit.source, phase=phase)
            elif measured is not None and _exceeds(metric, measured, limit):
                yield _violation(metric, measured, limit, phase=phase)


def _matching(complexity: Complexity, pattern: str) -> list[str]:
    # "*" matches the modules inside of the model, not the model itself, which has separate limits.
    return [path for path in complexity.modules if matches_pattern(path, pattern) and (path or not pattern)]


def _near_paths(complexity: Complexity, pattern: str) -> tuple[str, ...]:
    paths = [path for path in complexity.modules if path]
    # The most likely mistake is to write the last name of a module's path instead of the whole path.
    ends = [path for path in paths if matches_pattern(path, f"*.{pattern}")]
    return tuple(ends[:_NEAR_NAMES] or difflib.get_close_matches(pattern, paths, n=_NEAR_NAMES, cutoff=0.5))


def _used(part: Amount, whole: Amount) -> Fraction | float:
    if whole:
        return Fraction(part) / whole
    return math.inf if part else 1.0
