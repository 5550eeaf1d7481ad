"""Judge a measurement by its limits, its baseline and the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec.structs import replace

from pytest_flopsbudget.quantities.metrics import METRICS, base_of
from pytest_flopsbudget.results.anchor import anchor_limits, with_anchor
from pytest_flopsbudget.results.comparison import Comparison, compare, tightens
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.diff import Diff, diff, metrics_to_show
from pytest_flopsbudget.results.edits import Edit, find_edits
from pytest_flopsbudget.results.growth import GrowthViolation, Laws, check_growth, unproven_limits
from pytest_flopsbudget.results.latency_noise import NoisyLatency, find_noisy_latency, without_metrics
from pytest_flopsbudget.results.law_storing import store
from pytest_flopsbudget.results.limit_checks import (
    check_limits,
    find_unmatched,
    find_unmatched_measurements,
    find_warnings,
)
from pytest_flopsbudget.results.limits import (
    Limit,
    Share,
    UnmatchedPattern,
    Unmeasured,
    Violation,
    drop_metrics,
    held_metrics,
    largest_share,
    merge_budgets,
    name_machine,
    to_number,
    tolerance_for,
)
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from pytest_flopsbudget.config.settings import Budget, Settings


Outcome = Literal[
    "over limit",
    "under limit",
    "unchecked limit",
    "regressed",
    "unknown operators",
    "accepted",
    "improved",
    "changed",
    "new",
    "ok",
]
#: The measurements that an update accepts: only those without a baseline, or only those that tighten a baseline.
UpdateMode = Literal["new", "improved"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement and its judgment, as plain data. It is sent to other processes and stored in report files."""

    #: The measurement's name within its test.
    name: str
    #: The most important result of the judgment, in one word.
    outcome: Outcome
    #: Whether the test fails because of this measurement.
    fails: bool
    #: How often the test measured under this name. The largest of these measurements is kept.
    times: int = 1
    #: Whether the run accepts the measurement as the new baseline, if the test passes.
    accepted: bool = False
    #: The outcomes that fail the test because a setting demands this.
    failing: tuple[Outcome, ...] = ()
    #: Metric key → the limit of the whole model that applies.
    limits: dict[str, Limit] = {}
    #: Pattern of module paths → metric key → the limit that applies to every module that matches.
    module_limits: dict[str, dict[str, Limit]] = {}
    #: Phase → metric key → the limit that applies to the work of this phase.
    phase_limits: dict[str, dict[str, Limit]] = {}
    #: Pattern of operators → metric key → the limit that applies to all calls of every operator that matches.
    operator_limits: dict[str, dict[str, Limit]] = {}
    #: The limit with the largest used share.
    share: Share | None = None
    #: Limits that were exceeded, and limits on metrics that were not measured.
    broken: tuple[Violation | Unmeasured, ...] = ()
    #: Values beyond the warning of a limit. They do not fail the test.
    warned: tuple[Violation, ...] = ()
    #: Patterns in limits that match nothing.
    unmatched: tuple[UnmatchedPattern, ...] = ()
    #: Limits on growth, formulas, and limits for a range of sizes, that are broken or cannot be checked.
    growth: tuple[GrowthViolation, ...] = ()
    #: The comparison of the measurement with its baseline.
    comparison: Comparison
    #: Latencies that vary too much between runs to be judged.
    unjudged: tuple[NoisyLatency, ...] = ()
    #: The modules and operators through which each metric changed.
    diffs: tuple[Diff, ...] = ()
    #: The edited modules that explain the changes. The edit with the largest effect is first.
    edits: tuple[Edit, ...] = ()
    #: The measured costs. In a file, equal siblings among the modules share one line, "layers.{0-31}.mlp".
    complexity: Complexity


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement of a test, before it is judged."""

    name: str
    complexity: Complexity
    times: int = 1
    seconds: float = 0.0
    #: How the costs grow with sizes, if `flops_budget.over` made the measurement. ``complexity`` is the measurement of
    #: the largest sizes.
    laws: Laws | None = None

    def __str__(self) -> str:
        return f"{visible(self.name)}: {self.complexity}"

    def __repr__(self) -> str:
        return f"<Measurement {visible(self.name)!r}: {self.complexity!r}>"

    def _repr_html_(self) -> str:
        return self.complexity._repr_html_()


def judge(  # noqa: PLR0913 -- what a measurement is judged by
    measurement: Measurement,
    budgets: Sequence[Budget],
    settings: Settings,
    baseline: Complexity | None,
    *,
    accepts: UpdateMode | bool,
    neighbours: Callable[[], Mapping[str, Complexity]] | None = None,
    others: Mapping[str, Complexity] | None = None,
    has_laws: bool = False,
    anchor: Complexity | None = None,
) -> Verdict:
    """Judge one measurement.

    Args:
        measurement: the measurement.
        budgets: the budgets that apply to the measurement. A limit replaces limits of earlier budgets.
        settings: the settings of the pyproject.
        baseline: the accepted cost; None without a baseline.
        accepts: which measurements the run accepts as new baselines: all (True), none (False), or some (the mode).
            Limits apply in any case.
        neighbours: returns id → entry, for other baseline entries that may be of the same model. None if the id of the
            measurement always belongs to the same model.
        others: name → measurement, for all measurements of the test. A limit may be a share of one of them.
            The verdict on the first one also reports the names in budgets that match no measurement.
        has_laws: whether a measurement of the test has laws. Then others need none.
        anchor: the cost at the revision of the setting ``anchor``; None if this revision lacks the measurement.
    """
    complexity = measurement.complexity
    others = others or {measurement.name: complexity}
    effective = name_machine(merge_budgets(budgets, measurement.name), complexity)
    tolerance = tolerance_for(budgets, settings)
    held_by_baseline = held_metrics(budgets, settings)
    if measurement.laws is not None:
        complexity = replace(complexity, laws=store(measurement.laws, held_by_baseline))
    if anchor is not None and settings.anchor is not None:
        revision = settings.anchor.revision
        if anchor.inputs == complexity.inputs:
            limits = anchor_limits(anchor, complexity, held_by_baseline, settings.anchor.tolerance, revision)
            effective = with_anchor(effective, limits)
        else:
            inputs = ", ".join(anchor.inputs)
            note = f"not held to the anchor {revision}, which measured another input: {inputs}"
            complexity = replace(complexity, notes=(*complexity.notes, note))
    has_budget = "latency" in held_by_baseline or any(base_of(metric) == "latency" for metric in effective.limits)
    noisy = find_noisy_latency(complexity, tolerance, has_budget=has_budget)
    comparison = compare(
        baseline,
        without_metrics(complexity, _metrics_of(noisy)),
        tolerance,
        neighbours,
        hold=held_by_baseline,
    )
    if comparison.status == "improved" and comparison.inputs_changed:
        # A smaller input does not make a model cheaper.
        comparison = replace(comparison, status="changed")
    held = drop_metrics(effective, _metrics_of(noisy))
    everywhere = settings.limits.source if settings.limits is not None else None
    accepted = is_accepted(comparison, accepts)
    failing = _failing(complexity, comparison, settings, accepted=accepted)
    # The pyproject's limits apply to all models. Not every model has the phase or the module, not every run is timed,
    # and not every model is measured in serving.
    broken = tuple(
        item
        for item in check_limits(complexity, held, others)
        if not (isinstance(item, Unmeasured) and _is_of_some_models(item) and item.source == everywhere)
    )
    unmatched = find_unmatched(complexity, effective, others)
    if measurement.name == next(iter(others)):
        unmatched += find_unmatched_measurements(budgets, others)
    unmatched = [item for item in unmatched if item.source != everywhere]
    growth = check_growth(
        measurement.laws, budgets, held, measurement.name, everywhere=everywhere, measured_elsewhere=has_laws
    )
    if measurement.laws is not None:
        complexity = replace(complexity, notes=(*complexity.notes, *unproven_limits(measurement.laws, held)))
    diffs = _diffs(baseline, complexity, comparison)
    return Verdict(
        name=measurement.name,
        outcome=_limit_outcome(broken, unmatched, growth) or _outcome(comparison, failing, accepted=accepted),
        fails=bool(broken or unmatched or growth or failing),
        times=measurement.times,
        accepted=accepted,
        failing=failing,
        limits=effective.limits,
        module_limits=effective.modules,
        phase_limits=effective.phases,
        operator_limits=effective.operators,
        share=largest_share(complexity, held),
        broken=broken,
        warned=tuple(find_warnings(complexity, held)),
        unmatched=tuple(unmatched),
        growth=growth,
        comparison=comparison,
        unjudged=noisy,
        diffs=diffs,
        edits=_edits(baseline, complexity, comparison, diffs),
        complexity=complexity,
    )


def _is_of_some_models(limit: Unmeasured) -> bool:
    """Return whether only some models, or some ways of measuring, have what the limit is on."""
    return bool(limit.phase) or limit.metric == "latency" or METRICS[base_of(limit.metric)].of_serving


def refuse(verdict: Verdict) -> Verdict:
    """Return the verdict for a test that did not pass. Its measurement does not become the baseline."""
    outcome: Outcome = "regressed" if verdict.outcome == "accepted" else verdict.outcome
    return replace(verdict, accepted=False, outcome=outcome)


def would_pass(verdicts: Iterable[Verdict], accepts: UpdateMode | Literal[True]) -> bool:
    """Return whether a test with these verdicts would pass in a run that accepts all (True) or some measurements."""
    return all(
        not verdict.fails or (not _fails_anyway(verdict) and is_accepted(verdict.comparison, accepts))
        for verdict in verdicts
    )


def _fails_anyway(verdict: Verdict) -> bool:
    """Return whether the measurement fails the test even if the run accepts the measurement as the new baseline."""
    return bool(verdict.broken or verdict.unmatched or verdict.growth) or "unknown operators" in verdict.failing


def to_accept(verdict: Verdict) -> Complexity:
    """Return the part of the measurement that becomes the baseline if the measurement is accepted.

    Some latencies are left out: those that vary too much to be judged, and those within their tolerance of the
    baseline.
    """
    return without_metrics(verdict.complexity, {*_metrics_of(verdict.unjudged), *verdict.comparison.steady})


def _failing(
    complexity: Complexity, comparison: Comparison, settings: Settings, *, accepted: bool
) -> tuple[Outcome, ...]:
    failing: list[Outcome] = []
    if not accepted:
        if comparison.status == "regressed":
            failing.append("regressed")
        if comparison.status == "new" and settings.missing_baseline == "fail":
            failing.append("new")
        if comparison.status in {"improved", "changed"} and settings.improved_baseline == "fail":
            failing.append("improved" if comparison.status == "improved" else "changed")
    if complexity.unknown_operators and settings.unknown_operators == "fail":
        failing.append("unknown operators")
    return tuple(failing)


def _limit_outcome(
    broken: Sequence[Violation | Unmeasured],
    unmatched: Sequence[UnmatchedPattern],
    growth: Sequence[GrowthViolation],
) -> Outcome | None:
    """Return the outcome of a measurement that breaks limits; None if it breaks none.

    A value over one limit is more important than a value under another, and both are more important than a limit that
    cannot be checked.
    """
    violations = [item for item in broken if isinstance(item, Violation)]
    if growth or any(to_number(item.measured) > to_number(item.limit) for item in violations):
        return "over limit"
    if violations:
        return "under limit"
    return "unchecked limit" if broken or unmatched else None


def _outcome(comparison: Comparison, failing: Collection[Outcome], *, accepted: bool) -> Outcome:
    """Return the outcome of a measurement that is within its limits."""
    if "unknown operators" in failing:
        return "unknown operators"
    match comparison.status:
        case "regressed":
            return "accepted" if accepted else "regressed"
        case "improved" | "changed" | "new" as status:
            return status
        case _:
            return "ok"


def _metrics_of(noisy: Iterable[NoisyLatency]) -> set[str]:
    return {one.metric for one in noisy}


def _diffs(old: Complexity | None, new: Complexity, comparison: Comparison) -> tuple[Diff, ...]:
    if old is None:
        return ()
    return tuple(
        diff(old, new, metric)
        for metric in metrics_to_show({change.metric for change in comparison.changes if change.judged})
    )


def _edits(old: Complexity | None, new: Complexity, comparison: Comparison, diffs: Sequence[Diff]) -> tuple[Edit, ...]:
    if old is None or not diffs:
        return ()
    another_run = comparison.inputs_changed or comparison.execution_changed or comparison.backward_changed
    return find_edits(old, new, diffs, otherwise_explained=bool(another_run))


def is_accepted(comparison: Comparison, accepts: UpdateMode | bool) -> bool:
    """Return whether a run that accepts all (True), no (False) or some measurements accepts this measurement."""
    match accepts:
        case "new":
            return comparison.status == "new"
        case "improved":
            return tightens(comparison)
        case _:
            return accepts
