"""Describe what was edited in a model, and the causes of a run's failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_flopsbudget.quantities.formatting import format_percent
from pytest_flopsbudget.quantities.metrics import sort_metrics
from pytest_flopsbudget.reports.broken_limits import part_of
from pytest_flopsbudget.results.causes import CauseGroups
from pytest_flopsbudget.results.diff import FOLLOWS, shape_change
from pytest_flopsbudget.results.limits import Unmeasured
from pytest_flopsbudget.safe_text import pluralize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_flopsbudget.results.causes import Cause, CauseGroup
    from pytest_flopsbudget.results.edits import Edit, ModuleSettings
    from pytest_flopsbudget.results.verdict import Verdict


#: The maximum number of edits that the text on one measurement lists.
_MAX_EDIT_LINES = 5
#: The maximum number of edits and of tests that the description of a cause names.
_MAX_EDITS = 3
_MAX_TESTS = 3


def place_of(edit: Edit) -> str:
    """Return the path of the edited modules and their number: "blocks.{0-3}.conv (x4)"."""
    return f"{edit.path or 'the model itself'}{f' (x{edit.count:,})' if edit.count > 1 else ''}"


def edit_line(edit: Edit) -> str:
    """Describe an edit with all settings: "layer3.0.conv2: Conv2d(64->64, 3x3) -> Conv2d(64->64, 5x5)"."""
    return f"{place_of(edit)}: {_full_edit(edit)}"


def edit_lines(edits: Sequence[Edit], *, verbose: bool) -> Iterator[str]:
    """Yield an indented line for each of the first edits, or for all edits if ``verbose`` is true."""
    shown = edits if verbose else edits[:_MAX_EDIT_LINES]
    for edit in shown:
        yield f"  {edit_line(edit)}{_source(edit)}"
    if len(shown) < len(edits):
        yield f"  and {pluralize(len(edits) - len(shown), 'more edited module')}"


def _full_edit(edit: Edit) -> str:
    if edit.old is None or edit.new is None:
        side = edit.new or edit.old
        return f"{'new' if edit.kind == 'added' else 'removed'} {_settings(side) if side else ''}"
    if edit.kind == "cost":
        return f"{_settings(edit.new)}, settings unchanged"
    old, new = _settings(edit.old), _settings(edit.new)
    words = [new if old == new else f"{old} -> {new}"]
    if edit.old.calls != edit.new.calls:
        words.append(f"calls {edit.old.calls:,} -> {edit.new.calls:,}")
    return ", ".join(words)


def _settings(module: ModuleSettings) -> str:
    return f"{module.type}({module.shape})" if module.shape else module.type


def short_edit(edit: Edit) -> str:
    """Describe an edit without its place, with only the settings that differ: "Conv2d 3x3 -> 5x5"."""
    if edit.kind == "cost" and edit.new is not None:
        return f"{edit.new.type} with unchanged settings"
    if edit.old is None or edit.new is None or edit.old.type != edit.new.type:
        return _full_edit(edit)
    words = edit.new.type
    old, new = shape_change(edit.old.shape, edit.new.shape)
    if old != new:
        words += f" {old or 'none'} -> {new or 'none'}"
    if edit.old.calls != edit.new.calls:
        words += f", calls {edit.old.calls:,} -> {edit.new.calls:,}"
    return words


def input_change(inputs: tuple[tuple[str, ...], tuple[str, ...]]) -> str:
    """Describe the tensors of an input that differ: "float32[1, 8] -> float32[2, 8]"."""
    old, new = inputs
    if len(old) == len(new):
        differing = [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]]
        old, new = tuple(pair[0] for pair in differing), tuple(pair[1] for pair in differing)
    return f"{', '.join(old) or 'no tensors'} -> {', '.join(new) or 'no tensors'}"


class ShownCause(NamedTuple):
    """A cause that was shown in full before."""

    #: The node id of the test that showed it.
    test: str
    #: What this test broke: "params", "flops of layer4".
    broken: frozenset[str]


class ShownCauses:
    """Remembers which causes of failures were already shown in full, and at which test."""

    def __init__(self) -> None:
        self._groups = CauseGroups()
        self._first: dict[tuple[CauseGroup, object], ShownCause] = {}

    def earlier(self, nodeid: str, verdict: Verdict) -> ShownCause | None:
        """Return what was shown of the failure's cause; None if ``nodeid`` is the first test that fails for this cause.

        If a failure has limits that cannot be checked, or limits on growth, only failures with equal ones share its
        cause.
        """
        group = self._groups.find(verdict)
        if not group.is_shared:
            return None
        labels = [f"{item.metric}{part_of(item)}" for item in verdict.broken]
        labels += [change.metric for change in verdict.comparison.changes if not change.allowed]
        labels += [law.metric for law in verdict.comparison.laws if not law.allowed]
        unmeasured = tuple(item for item in verdict.broken if isinstance(item, Unmeasured))
        first = self._first.setdefault(
            (group, (unmeasured, verdict.unmatched, verdict.growth)), ShownCause(nodeid, frozenset(labels))
        )
        return None if first.test == nodeid else first


def cause_title(cause: Cause) -> str:
    """Describe a cause in one phrase: "Conv2d 3x3 -> 5x5 in blocks.*.conv (mypkg/net.py:12)"."""
    words = []
    if cause.inputs is not None:
        words.append(f"another input, {input_change(cause.inputs)}")
    if cause.execution is not None:
        words.append("another execution, {} -> {}".format(*cause.execution))
    if cause.backward is not None:
        words.append(f"measured {'with' if cause.backward[1] else 'without'} the backward pass")
    words += [
        f"{short_edit(edit)} in {edit.path or 'the model itself'}{_source(edit)}" for edit in cause.edits[:_MAX_EDITS]
    ]
    if len(cause.edits) > _MAX_EDITS:
        words.append(f"{pluralize(len(cause.edits) - _MAX_EDITS, 'more edit')}")
    if cause.unknown_operators:
        words.append(f"operators without a formula, {', '.join(cause.unknown_operators)}")
    if cause.without_baseline:
        words.append("no baseline")
    if not words and cause.limit_sources:
        more = f" and {pluralize(len(cause.limit_sources) - 1, 'more limit')}" if len(cause.limit_sources) > 1 else ""
        words.append(f"broken limit of {cause.limit_sources[0]}{more}")
    return "; ".join(words) or "no edited module"


def _source(edit: Edit) -> str:
    """Return the file and line of the edited class: " (mypkg/net.py:12)"; "" if they are unknown.

    If there are several classes, the file is without a line, and the number of the other files follows.
    """
    files = [*dict.fromkeys(source.file for source in edit.sources)]
    if not files:
        return ""
    more = f" and {pluralize(len(files) - 1, 'more file')}" if len(files) > 1 else ""
    line = f":{edit.sources[0].line}" if len(edit.sources) == 1 and edit.sources[0].line else ""
    return f" ({files[0]}{line}{more})"


def change_ranges(cause: Cause) -> list[str]:
    """Return metrics with their changes, as `ranges_by_metric` has them: "flops +178.0%", "params +1.1% to +1.8%"."""
    return [f"{metric} {text}" for metric, text in ranges_by_metric(cause).items()]


def ranges_by_metric(cause: Cause) -> dict[str, str]:
    """Return metric → its change: "+150.1% to +178.0%". See `without_followers` for metrics that are left out."""
    texts = {}
    for one in cause.changes:
        least, most = format_percent(*one.smallest), format_percent(*one.largest)
        texts[one.metric] = least if least == most else f"{least} to {most}"
    return {metric: texts[metric] for metric in without_followers(texts, texts)}


def without_followers(metrics: Iterable[str], texts: dict[str, str]) -> list[str]:
    """Leave out each metric that follows from a listed one and changed as much, like param_bytes with params.

    Args:
        metrics: the metrics that changed.
        texts: metric → its change as shown. A metric with another change than the metric that it follows is kept. A
            metric that is a part of the other one is kept only if it shrank while the other one grew, or grew while it
            shrank, because shares of a part and of the whole nearly always differ.
    """
    return [
        metric
        for metric in sort_metrics(metrics)
        if FOLLOWS.get(metric) not in texts or not _is_alike(metric, texts[metric], texts[FOLLOWS[metric]])
    ]


def _is_alike(metric: str, text: str, leading: str) -> bool:
    return text[:1] == leading[:1] if metric == "masked_flops" else text == leading


def cause_lines(cause: Cause) -> Iterator[str]:
    """Yield lines on a cause: what changed, by how much, in which tests, and how to accept all of them."""
    yield cause_head(cause)
    more = f", and {len(cause.tests) - _MAX_TESTS:,} more" if len(cause.tests) > _MAX_TESTS else ""
    yield f"    {', '.join(cause.tests[:_MAX_TESTS])}{more}"
    if cause.accept:
        yield f"    to accept{_condition(cause)}: {cause.accept}"


def cause_head(cause: Cause) -> str:
    """Describe a cause in one line: "Conv2d 3x3 -> 5x5 in blocks.*.conv: 11 tests, flops +178.0%"."""
    return f"{cause_title(cause)}: {', '.join((pluralize(len(cause.tests), 'test'), *change_ranges(cause)))}"


def _condition(cause: Cause) -> str:
    if cause.over_limit == len(cause.tests):
        return ", once the limits allow it"
    return f", {cause.over_limit:,} of them once the limits allow it" if cause.over_limit else ""
