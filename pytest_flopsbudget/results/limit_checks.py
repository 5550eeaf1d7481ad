"""Check the limits of a measurement: which are broken, which cannot be checked, and which match nothing."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from msgspec.structs import replace

from pytest_flopsbudget.identifiers import matches_pattern
from pytest_flopsbudget.quantities.metrics import METRICS, base_of, is_measured, measured_value, metric_of
from pytest_flopsbudget.results.limits import (
    EffectiveLimits,
    Limit,
    Ratio,
    UnmatchedPattern,
    Unmeasured,
    Violation,
    in_order,
    to_number,
    to_stored,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from pytest_flopsbudget.config.settings import Budget
    from pytest_flopsbudget.quantities.metrics import Amount
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.limits import Bound

_NEAR_NAMES = 3
#: The maximum number of measurements that are listed.
MAX_NAMES = 12


class _Group(NamedTuple):
    """Parts of a measurement with the same limits: the model, the modules that match a pattern, a phase, ..."""

    kind: Literal["model", "module", "phase", "operator"]
    #: The pattern or the phase; empty for the model.
    pattern: str
    limits: Mapping[str, Limit]
    #: Name of each part → its metrics; None for a phase that did not run.
    parts: Mapping[str, Mapping[str, int] | None]

    def place(self, name: str) -> dict[str, str]:
        """Return the field of `Violation` or `Unmeasured` that names the part ``name``; no field for the model."""
        return {} if self.kind == "model" else {self.kind: name}


def check_limits(
    complexity: Complexity, effective: EffectiveLimits, others: Mapping[str, Complexity] | None = None
) -> list[Violation | Unmeasured]:
    """Return the limits that are broken or cannot be checked, for the model, its modules, phases and operators.

    Args:
        complexity: the measurement.
        effective: its limits.
        others: name → measurement, for all measurements of the test. A limit may be a share of one of them.
    """
    found: list[Violation | Unmeasured] = []
    for group in _groups(complexity, effective):
        for metric, limit in in_order(group.limits):
            found += _check(group, metric, limit, complexity, others or {})
    return found


def find_warnings(complexity: Complexity, effective: EffectiveLimits) -> list[Violation]:
    """Return the values that are beyond the warning of a limit, but do not break the limit."""
    found = []
    for group in _groups(complexity, effective):
        for metric, limit in in_order(group.limits):
            for name, measured in _values(group, metric):
                warning = _passed_warning(metric, measured, limit)
                if warning is not None:
                    violation = _violation(metric, measured, limit, (_default_bound(metric), warning))
                    found.append(replace(violation, **group.place(name)))
    return found


def find_unmatched(
    complexity: Complexity, effective: EffectiveLimits, others: Mapping[str, Complexity] | None = None
) -> list[UnmatchedPattern]:
    """Return the patterns that match no module and no operator, and the names in ``share_of`` that do not exist.

    A pattern is returned once for each place where it is written.
    """
    found = []
    for group in _groups(complexity, effective):
        sources = dict.fromkeys(limit.source for limit in group.limits.values())
        if group.kind == "module" and not group.parts:
            near = _near_paths(complexity, group.pattern)
            found += [UnmatchedPattern(pattern=group.pattern, source=source, near=near) for source in sources]
        if group.kind == "operator" and not group.parts:
            near = _near(_operator_name(group.pattern), complexity.operators)
            found += [
                UnmatchedPattern(pattern=group.pattern, source=source, near=near, kind="operator") for source in sources
            ]
        for of, source in dict.fromkeys((limit.share_of, limit.source) for limit in group.limits.values()):
            if of is not None and of not in (others or {}) and of not in complexity.modules:
                near = _near(of, [*(others or {}), *filter(None, complexity.modules)])
                names = tuple(others or {})[:MAX_NAMES]
                found.append(
                    UnmatchedPattern(pattern=of, source=source, near=near, measurements=names, kind="share of")
                )
    return found


def find_unmatched_measurements(budgets: Iterable[Budget], names: Collection[str]) -> list[UnmatchedPattern]:
    """Return the patterns of names of measurements that match none of ``names``, the measurements of a test."""
    return [
        UnmatchedPattern(pattern=pattern, source=budget.source, near=tuple(names)[:_NEAR_NAMES], kind="measurement")
        for budget in budgets
        for pattern in budget.measurements
        if not any(matches_pattern(name, pattern) for name in names)
    ]


def _groups(complexity: Complexity, effective: EffectiveLimits) -> Iterator[_Group]:
    yield _Group("model", "", effective.limits, {"": complexity.metrics})
    for pattern, limits in effective.modules.items():
        # "*" matches the modules inside of the model, not the model itself, which has separate limits.
        paths = [path for path in complexity.modules if matches_pattern(path, pattern) and (path or not pattern)]
        yield _Group("module", pattern, limits, {path: complexity.modules[path].metrics for path in paths})
    for phase, limits in effective.phases.items():
        yield _Group("phase", phase, limits, {phase: complexity.work_of(phase)})
    for pattern, limits in effective.operators.items():
        written = _operator_name(pattern)
        yield _Group(
            "operator",
            pattern,
            limits,
            {name: one.metrics for name, one in complexity.operators.items() if matches_pattern(name, written)},
        )


def _operator_name(pattern: str) -> str:
    """Return the pattern as reports write operators: "aten.mm" for "aten::mm"."""
    return pattern.replace("::", ".")


def _values(group: _Group, metric: str) -> Iterator[tuple[str, Amount]]:
    for name, metrics in group.parts.items():
        measured = None if metrics is None else measured_value(metrics, metric)
        if metrics is not None and measured is not None and is_measured(metrics, metric):
            yield name, measured


def _check(
    group: _Group, metric: str, limit: Limit, complexity: Complexity, others: Mapping[str, Complexity]
) -> Iterator[Violation | Unmeasured]:
    unmeasured = any(metrics is None or not is_measured(metrics, metric) for metrics in group.parts.values())
    if (
        unmeasured
        and METRICS[base_of(metric)].of_serving
        and any(is_measured(o.metrics, metric) for o in others.values())
    ):
        return  # the limit is for another step of serving
    whole: Amount | None = None
    if limit.share_of is not None:
        of = others.get(limit.share_of) or complexity.modules.get(limit.share_of)
        if of is None:
            return  # `find_unmatched` reports this
        if of is complexity and group.kind == "model":
            return  # the limit is for the other measurements of the test
        whole = measured_value(of.metrics, metric)
        unmeasured = unmeasured or whole is None
    if unmeasured:
        yield replace(Unmeasured(metric=metric, module=None, source=limit.source), **group.place(group.pattern))
    if limit.share_of is not None and whole is None:
        return
    for name, measured in _values(group, metric):
        broken = _broken(metric, measured, limit, whole)
        if broken is not None and not (group.kind == "module" and name == limit.share_of):
            yield replace(_violation(metric, measured, limit, broken), **group.place(name))


def _broken(metric: str, measured: Amount, limit: Limit, whole: Amount | None) -> tuple[Bound, Amount] | None:
    """Return which bound the value breaks, and the amount of this bound; None if the value is within the limit."""
    minimum, maximum = _amount(metric, limit.minimum, whole, up=True), _amount(metric, limit.maximum, whole, up=False)
    if maximum is not None and measured > maximum:
        return ("exact value" if minimum == maximum else "maximum"), maximum
    if minimum is not None and measured < minimum:
        return ("exact value" if minimum == maximum else "minimum"), minimum
    return None


def _amount(metric: str, bound: int | Ratio | None, whole: Amount | None, *, up: bool) -> Amount | None:
    """Return the amount of a bound. If ``whole`` is given, the bound is a share of it."""
    if bound is None or whole is None:
        return None if bound is None else to_number(bound)
    amount = to_number(bound) * whole
    if METRICS[base_of(metric)].over:
        return amount
    return math.ceil(amount) if up else math.floor(amount)


def _passed_warning(metric: str, measured: Amount, limit: Limit) -> Amount | None:
    """Return the amount of the warning if the value is beyond it and does not break the limit."""
    if limit.warning is None or _broken(metric, measured, limit, None) is not None:
        return None
    warning = to_number(limit.warning)
    beyond = measured > warning if metric_of(metric).better == "less" else measured < warning
    return warning if beyond else None


def _default_bound(metric: str) -> Bound:
    return "maximum" if metric_of(metric).better == "less" else "minimum"


def _violation(metric: str, measured: Amount, limit: Limit, broken: tuple[Bound, Amount]) -> Violation:
    bound, amount = broken
    violation = Violation(
        metric=metric,
        module=None,
        measured=to_stored(measured),
        limit=to_stored(amount),
        source=limit.source,
        bound=bound,
    )
    if limit.share_of is None:
        return violation
    share = to_number((limit.minimum if bound == "minimum" else limit.maximum) or 0)
    return replace(violation, share_of=limit.share_of, share=Ratio(share.numerator, share.denominator))


def _near_paths(complexity: Complexity, pattern: str) -> tuple[str, ...]:
    paths = [path for path in complexity.modules if path]
    # The most likely mistake is to write the last name of a module's path instead of the whole path.
    ends = [path for path in paths if matches_pattern(path, f"*.{pattern}")]
    return tuple(ends[:_NEAR_NAMES]) or _near(pattern, paths)


def _near(name: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(difflib.get_close_matches(name, list(names), n=_NEAR_NAMES, cutoff=0.5))
