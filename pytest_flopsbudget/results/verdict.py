"""One measurement, judged: against its limits, its baseline and the rest of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from pytest_flopsbudget.results.comparison import Comparison, compare, tightens
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.diff import Diff, diff, metrics_to_show
from pytest_flopsbudget.results.latency_noise import NoisyLatency, find_noisy_latency, without_metrics
from pytest_flopsbudget.results.limits import (
    Limit,
    Share,
    UnmatchedPattern,
    Unmeasured,
    Violation,
    check_limits,
    drop_metrics,
    find_unmatched,
    largest_share,
    merge_budgets,
    name_machine,
    tolerance_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_flopsbudget.config.settings import Budget, Settings


Outcome = Literal["over limit", "regressed", "unknown operators", "accepted", "improved", "new", "ok"]
#: What alone an update accepts: what has no baseline yet, or what tightens one.
UpdateMode = Literal["new", "improved"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a measurement is, what it should be, and which differences fail the test. Travels between processes."""

    #: The measurement's name within its test.
    name: str
    complexity: Complexity
    #: How often this name was measured; the largest measurement counts.
    times: int
    #: Seconds that all of its measurements took.
    seconds: float
    #: Metric key → the limit of the whole model that holds.
    limits: dict[str, Limit] = {}
    #: Pattern of module paths → metric key → the limit that holds for every module that matches.
    module_limits: dict[str, dict[str, Limit]] = {}
    #: Phase → metric key → the limit that holds for its work.
    phase_limits: dict[str, dict[str, Limit]] = {}
    #: Limits that were exceeded, or that hold for what was not measured.
    broken: tuple[Violation | Unmeasured, ...] = ()
    #: Module patterns that match nothing.
    unmatched: tuple[UnmatchedPattern, ...] = ()
    comparison: Comparison
    #: Through what the metrics changed, for those whose modules tell something that no other's tell.
    diffs: tuple[Diff, ...] = ()
    #: The limit that is used up most.
    share: Share | None = None
    #: Latencies that are too uneven to be judged.
    unjudged: tuple[NoisyLatency, ...] = ()
    #: Whether the run accepts this measurement as the new baseline.
    accepted: bool = False
    #: Which of the settings' reactions fail the test: "regressed", "new", "improved", "unknown operators".
    failing: tuple[Outcome, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether the test that measured fails for it."""
        return bool(self.broken or self.unmatched or self.failing)

    @property
    def outcome(self) -> Outcome:
        """The one word that says most."""
        if self.broken or self.unmatched:
            return "over limit"
        if "unknown operators" in self.failing:
            return "unknown operators"
        if self.comparison.status == "regressed":
            return "accepted" if self.accepted else "regressed"
        if self.comparison.status == "improved":
            return "improved"
        return "new" if self.comparison.status == "new" else "ok"


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """What a test measured under one name."""

    name: str
    complexity: Complexity
    times: int = 1
    seconds: float = 0.0


def judge(
    measurement: Measurement,
    budgets: Sequence[Budget],
    settings: Settings,
    baseline: Complexity | None,
    *,
    accepts: UpdateMode | bool,
) -> Verdict:
    """Judge one measurement.

    Args:
        measurement: what was measured.
        budgets: the budgets that hold for it, the closest last.
        settings: the pyproject's.
        baseline: what was accepted before, if anything.
        accepts: whether this run accepts what it measures as the new baseline, or what alone of it; limits hold all the
            same.
    """
    complexity = measurement.complexity
    effective = name_machine(merge_budgets(budgets), complexity)
    tolerance = tolerance_for(budgets, settings)
    uneven = find_noisy_latency(complexity, tolerance)
    comparison = compare(baseline, without_metrics(complexity, _names(uneven)), tolerance)
    held = drop_metrics(effective, _names(uneven))
    everywhere = settings.limits.source if settings.limits is not None else None
    accepted = _is_accepted(comparison, accepts)
    failing: list[Outcome] = []
    if not accepted:
        if comparison.status == "regressed":
            failing.append("regressed")
        if comparison.status == "new" and settings.missing_baseline == "fail":
            failing.append("new")
        if comparison.status == "improved" and settings.improved_baseline == "fail":
            failing.append("improved")
    if complexity.unknown_operators and settings.unknown_operators == "fail":
        failing.append("unknown operators")
    return Verdict(
        name=measurement.name,
        complexity=complexity,
        times=measurement.times,
        seconds=measurement.seconds,
        limits=effective.limits,
        module_limits=effective.modules,
        phase_limits=effective.phases,
        # What holds for all models need not name a module, or a phase, of each of them, nor can all of them be timed.
        broken=tuple(
            item
            for item in check_limits(complexity, held)
            if not (
                isinstance(item, Unmeasured) and (item.phase or item.metric == "latency") and item.source == everywhere
            )
        ),
        unmatched=tuple(item for item in find_unmatched(complexity, effective) if item.source != everywhere),
        comparison=comparison,
        diffs=_diffs(baseline, complexity, comparison),
        share=largest_share(complexity, held),
        unjudged=uneven,
        accepted=accepted,
        failing=tuple(failing),
    )


def _names(uneven: Iterable[NoisyLatency]) -> set[str]:
    return {one.metric for one in uneven}


def _diffs(old: Complexity | None, new: Complexity, comparison: Comparison) -> tuple[Diff, ...]:
    if old is None:
        return ()
    return tuple(diff(old, new, metric) for metric in metrics_to_show({change.metric for change in comparison.changes}))


def _is_accepted(comparison: Comparison, accepts: UpdateMode | bool) -> bool:
    match accepts:
        case "new":
            return comparison.status == "new"
        case "improved":
            return tightens(comparison)
        case _:
            return accepts


#: The name of a measurement that was given none.
DEFAULT_NAME = "model"
