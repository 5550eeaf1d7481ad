"""Limits: which limits apply to a measurement, and which share of them is used. limit_checks.py checks them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from pytest_flopsbudget.identifiers import matches_pattern
from pytest_flopsbudget.quantities.metrics import (
    Amount,
    base_of,
    devices_in,
    measured_key,
    measured_value,
    metric_of,
    sort_metrics,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.config.settings import Budget, Settings
    from pytest_flopsbudget.quantities.bounds import Bounds
    from pytest_flopsbudget.quantities.tolerance import Tolerance
    from pytest_flopsbudget.results.complexity import Complexity


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
    """A limit on a metric, in the metric's unit: a maximum, a minimum, or both."""

    #: The largest allowed value; null if there is none.
    maximum: int | Ratio | None
    #: The place where the limit was written.
    source: str
    #: The smallest allowed value; null if there is none.
    minimum: int | Ratio | None = None
    #: Values beyond this bound pass with a warning; null if there is none.
    warning: int | Ratio | None = None
    #: If not null, ``maximum`` and ``minimum`` are shares of the value of this measurement or of this module.
    share_of: str | None = None

    def bound(self, metric: str) -> Amount | None:
        """Return the extreme value that is allowed: the maximum, or the minimum if more of ``metric`` is better.

        Return None if the limit has no such value, or if its value depends on another measurement.
        """
        bound = self.maximum if metric_of(metric).better == "less" else self.minimum
        return None if bound is None or self.share_of is not None else to_number(bound)


def make_limit(bounds: Bounds, source: str) -> Limit:
    """Return the limit in the form in which files store it."""
    maximum, minimum, warning = (
        None if amount is None else to_stored(amount) for amount in (bounds.maximum, bounds.minimum, bounds.warning)
    )
    return Limit(maximum, source, minimum, warning, bounds.share_of)


class EffectiveLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of one measurement. Limits of later budgets have already replaced limits of earlier budgets."""

    #: Metric key → limit of the whole model.
    limits: dict[str, Limit] = {}
    #: Pattern of module paths → metric key → limit of every module whose path matches.
    modules: dict[str, dict[str, Limit]] = {}
    #: Phase → metric key → limit of the work in this phase.
    phases: dict[str, dict[str, Limit]] = {}
    #: Pattern of operators → metric key → limit of all calls of every operator that matches.
    operators: dict[str, dict[str, Limit]] = {}


Bound = Literal["maximum", "minimum", "exact value"]


class Violation(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """A limit that was broken."""

    metric: str
    #: Path of the module; None for the whole model.
    module: str | None
    measured: int | Ratio
    limit: int | Ratio
    #: The place where the limit was written.
    source: str
    #: "forward", "backward", "optimizer"; None for all phases together.
    phase: str | None = None
    #: The operator; None for all operators together.
    operator: str | None = None
    #: The kind of ``limit``: the measured value is above a maximum, below a minimum, or not equal to an exact value.
    bound: Bound = "maximum"
    #: If the limit is a share: the measurement or the path of the module whose value is multiplied by ``share``.
    share_of: str | None = None
    #: The share; None if the limit is an amount.
    share: Ratio | None = None

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
    #: The pattern of operators, as written; None for all operators together.
    operator: str | None = None


class UnmatchedPattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pattern in a limit that matches nothing."""

    pattern: str
    source: str
    #: Similar names, the most similar first.
    near: tuple[str, ...] = ()
    #: For "share of": the names of the first measurements of the test.
    measurements: tuple[str, ...] = ()
    #: What the pattern should match. "share of": a measurement of the test or a module of the model.
    kind: Literal["module", "operator", "measurement", "share of"] = "module"


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


def merge_budgets(budgets: Sequence[Budget], name: str = "") -> EffectiveLimits:
    """Merge the budgets for the measurement ``name``. A limit replaces limits of earlier budgets on the same metric.

    FLOPs and MACs are one quantity: a limit on one of them replaces earlier limits on both. Times on different
    devices are different quantities. Limits of modules are merged per pattern. Limits of different patterns all apply.
    """
    limits: dict[str, Limit] = {}
    modules: dict[str, dict[str, Limit]] = {}
    phases: dict[str, dict[str, Limit]] = {}
    operators: dict[str, dict[str, Limit]] = {}
    for budget in in_measurement(budgets, name):
        limits = _override(limits, budget.limits, budget.source)
        for merged, closer in ((modules, budget.modules), (phases, budget.phases), (operators, budget.operators)):
            for part, bounds in closer.items():
                merged[part] = _override(merged.get(part, {}), bounds, budget.source)
    return EffectiveLimits(limits, modules, phases, operators)


def in_measurement(budgets: Iterable[Budget], name: str) -> Iterator[Budget]:
    """Yield the budgets for a measurement. Limits for its name come after the other limits of the same budget."""
    for budget in budgets:
        yield budget
        yield from (own for pattern, own in budget.measurements.items() if matches_pattern(name, pattern))


def _with_measurements(budgets: Iterable[Budget]) -> Iterator[Budget]:
    for budget in budgets:
        yield budget
        yield from budget.measurements.values()


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


def largest_share(complexity: Complexity, effective: EffectiveLimits) -> Share | None:
    """Return the largest used share of the model's limits; None if no measured metric has a limit."""
    shares = []
    for metric, limit in in_order(effective.limits):
        measured, bound = measured_value(complexity.metrics, metric), limit.bound(metric)
        if measured is not None and bound is not None:
            shares.append(
                Share(metric=metric, measured=to_stored(measured), limit=to_stored(bound), source=limit.source)
            )
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
    return tuple(devices_in(metric for budget in _with_measurements(budgets) for metric in _limited(budget)))


def limits_latency(budgets: Iterable[Budget]) -> bool:
    """Return whether a budget limits the latency. The latency then has to be measured."""
    return any(base_of(metric) == "latency" for budget in _with_measurements(budgets) for metric in budget.limits)


def asks_for_latency(budgets: Collection[Budget]) -> bool:
    """Return whether the latency has to be measured: a budget limits it, or has a tolerance for it.

    A tolerance that the pyproject sets for all measurements does not count. It applies to measurements that are timed
    for another reason.
    """
    return limits_latency(budgets) or any("latency" in budget.tolerance for budget in budgets)


def _limited(budget: Budget) -> Iterator[str]:
    for limits in (
        budget.limits,
        *budget.modules.values(),
        *budget.phases.values(),
        *budget.operators.values(),
    ):
        yield from limits


def _quantity(metric: str) -> str:
    derived = metric_of(metric).derived
    return derived[0] if len(derived) == 1 else metric


def _override(farther: Mapping[str, Limit], closer: Mapping[str, Bounds], source: str) -> dict[str, Limit]:
    quantities = {_quantity(metric) for metric in closer}
    kept = {metric: limit for metric, limit in farther.items() if _quantity(metric) not in quantities}
    return kept | {metric: make_limit(bounds, source) for metric, bounds in closer.items()}


def in_order(limits: Mapping[str, Limit]) -> list[tuple[str, Limit]]:
    """Return (metric key, limit), in the order in which reports show metrics."""
    return [(metric, limits[metric]) for metric in sort_metrics(limits)]


def _used(part: Amount, whole: Amount) -> Fraction | float:
    if whole:
        return Fraction(part) / whole
    return math.inf if part else 1.0
