"""The page about one measurement: its totals, what bounds it, where its work is done, and advice."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from pytest_flopsbudget.hardware.roofline import bound_of
from pytest_flopsbudget.quantities.formatting import format_value
from pytest_flopsbudget.quantities.metrics import METRICS, count_of, key_for, measured_value
from pytest_flopsbudget.reports import details
from pytest_flopsbudget.reports.advice import NAMES, AdviceTarget, describe_bound
from pytest_flopsbudget.reports.cells import change, percent, used
from pytest_flopsbudget.reports.law_facts import law_facts
from pytest_flopsbudget.reports.terminal.explain_tables import modules, operators, phases
from pytest_flopsbudget.reports.terminal.summary import STYLES
from pytest_flopsbudget.reports.terminal.table import empty_table
from pytest_flopsbudget.reports.unknown import unknown_operators
from pytest_flopsbudget.reports.wording import format_amount
from pytest_flopsbudget.results.identity import DEFAULT_NAME
from pytest_flopsbudget.results.module_table import total_cells
from pytest_flopsbudget.results.module_tree import build_module_tree, rank_groups, share_of_total
from pytest_flopsbudget.safe_text import pluralize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.reports.terminal.screen import Screen
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.module_tree import ModuleGroup
    from pytest_flopsbudget.results.verdict import Verdict


#: The maximum number of modules that the page names.
MAX_GROUPS = 10
#: For these dtypes, if the device has a rate, the page shows the intensity above which products are compute-bound.
_BALANCES = ("float32", "tfloat32", "bfloat16")
#: If the terminal is at least this wide, totals are in two columns.
_WIDE = 72
_EXECUTIONS = {
    "shapes": "on shapes, without data",
    "real": "for real, on data; the count may depend on that data",
    "watched": "watched, as the test ran it",
}
_HOW_TO_ASK = (
    "no device was asked for; to see what bounds the time on one, name it in [tool.pytest-flopsbudget] of the "
    'pyproject: time-on = ["A100"]'
)


def explain_page(nodeid: str, verdict: Verdict, devices: Sequence[Device], screen: Screen) -> list[str]:
    """Return the lines of the page. No line is wider than the screen.

    Args:
        nodeid: the test, as the user types it.
        verdict: the test's measurement, with modules and operators.
        devices: the devices for which the time was estimated. The most important device is first.
        screen: the terminal that will show the lines.
    """
    complexity = verdict.complexity
    root = build_module_tree(complexity)
    device = devices[0] if devices else None
    name = device.name if device else None
    by = f"by least time on {name} (estimate)" if name else "by FLOPs or bytes, whichever is the larger share"
    sections: Mapping[str, Iterable[RenderableType]] = {
        "": _head(nodeid, verdict, screen),
        "totals": _totals(complexity, screen),
        "growth": _growth(complexity, screen),
        "bounds": _bounds(complexity, devices, screen),
        "by phase": phases(complexity, name, screen),
        f"modules, {by}": [modules(complexity, root, name, screen)],
        f"operators, {by}": operators(complexity, name, screen),
        f"most promising places, {by}": _group_rows(complexity, root, device, screen),
    }
    lines: list[str] = []
    for title, parts in sections.items():
        found = [line for part in parts for line in screen.lines(part)]
        if found:
            lines += ["", *screen.lines(_line(title, screen, indent=0, style="bold"))] if title else []
            lines += found
    return lines


def _head(nodeid: str, verdict: Verdict, screen: Screen) -> Iterator[RenderableType]:
    complexity = verdict.complexity
    yield _line(nodeid if verdict.name == DEFAULT_NAME else f"{nodeid}:{verdict.name}", screen, indent=0, style="bold")
    inputs = ", ".join(complexity.inputs) or "no tensors"
    yield _line(f"{complexity.model} of {inputs}", screen)
    how = " and ".join(phase for phase in complexity.phases if complexity.work_of(phase)) or "forward"
    times = f"the largest of {verdict.times:,} measurements" if verdict.times > 1 else ""
    yield _line("; ".join(filter(None, (f"{how}, {_EXECUTIONS[complexity.execution]}", times))), screen)
    yield _line(_outcome(verdict), screen, style=STYLES[verdict.outcome])
    for note in (*complexity.notes, *details.noisy_latency_lines(verdict)):
        yield _line(note, screen)
    if complexity.unknown_operators:
        yield _line("operators without a formula, missing from all that follows:", screen)
        for line in unknown_operators(complexity):
            yield _line(line.strip(), screen, indent=4)


def _outcome(verdict: Verdict) -> str:
    share_used = used(verdict.share)
    budget = f"{share_used} of the limit that is used up most" if share_used else "held to no limit"
    changed = change(verdict.comparison)
    against = {"new": "no baseline", "=": "as in the baseline"}.get(changed, f"{changed} FLOPs against the baseline")
    if changed == "(other)":
        against = "as many FLOPs as in the baseline, but others changed"
    return f"{verdict.outcome}: {budget}, {against}"


def _totals(complexity: Complexity, screen: Screen) -> Iterator[RenderableType]:
    cells = [*total_cells(complexity)]
    pairs = 2 if screen.width >= _WIDE else 1
    rows = -(-len(cells) // pairs)
    columns = [cells[i * rows : (i + 1) * rows] for i in range(pairs)]
    table = empty_table(screen)
    table.show_header = False
    table.box = None
    table.padding = (0, 4, 0, 0)
    for _ in range(2 * pairs):
        table.add_column(no_wrap=True, overflow="crop")
    for i in range(rows):
        row = [cell for column in columns for cell in (column[i] if i < len(column) else ("", ""))]
        table.add_row(*(screen.safe(cell) for cell in row))
    yield Padding(table, (0, 0, 0, 2))
    for line in (*details.peak_lines(complexity), *details.latency_lines(complexity)):
        yield _line(line, screen)


def _bounds(complexity: Complexity, devices: Sequence[Device], screen: Screen) -> Iterator[RenderableType]:
    for device in devices:
        time = count_of(complexity.metrics, key_for("time", device.name))
        if time is None:
            continue
        bound = bound_of(*details.parts_of_time(complexity.metrics, device.name))
        words = f"{device.name}: {format_amount(time, 'time')}, {bound}-bound"
        yield _line(words, screen)
        for line in (_parts(complexity, device), _balance(complexity, device), _fit(complexity, device)):
            if line:
                yield _line(line, screen, indent=4)
    if not devices:
        yield _line(_HOW_TO_ASK, screen)


def _growth(complexity: Complexity, screen: Screen) -> Iterator[RenderableType]:
    """Yield the law of each metric, what doubling each size costs, and where one term overtakes another."""
    if complexity.laws is None:
        return
    for depth, words in law_facts(complexity.laws, signs=screen.unicode):
        yield _line(words, screen, indent=2 + 4 * depth)


def _parts(complexity: Complexity, device: Device) -> str:
    parts = details.parts_of_time(complexity.metrics, device.name)
    words = []
    for name, part in zip(("compute", "memory", "launches"), parts, strict=True):
        of_time = f" ({percent(Fraction(part, sum(parts)))})" if any(parts) else ""
        words.append(f"{name} {format_value(part, METRICS['time'])}{of_time}")
    return ", ".join(words)


def _balance(complexity: Complexity, device: Device) -> str:
    """Return the arithmetic intensity above which products are compute-bound instead of memory-bound."""
    row = METRICS["arithmetic_intensity"]
    rates = {dtype: device.rate(dtype) for dtype in _BALANCES if dtype != "tfloat32" or dtype in device.rates}
    words = ", ".join(f"{rate / device.bandwidth:.3g} ({NAMES.get(dtype, dtype)})" for dtype, rate in rates.items())
    intensity = measured_value(complexity.metrics, row.key)
    beside = f"; all operators together have {format_value(intensity, row)}" if intensity is not None else ""
    return f"products are compute-bound from {words} FLOPs/byte on{beside}"


def _fit(complexity: Complexity, device: Device) -> str:
    peak = measured_value(complexity.metrics, "peak_memory")
    if peak is None or not device.memory:
        return ""
    row = METRICS["peak_memory"]
    of_memory = percent(Fraction(peak, device.memory))
    has = f"{of_memory} of the {format_value(device.memory, row)} that it is sold with at most"
    verb = "fits" if peak <= device.memory else "does not fit"
    return f"{verb}: a peak of {format_value(peak, row)} is {has}"


def _group_rows(
    complexity: Complexity, root: ModuleGroup, device: Device | None, screen: Screen
) -> Iterator[RenderableType]:
    """Yield the self costs (costs without child modules) of the most expensive modules, with advice."""
    name = device.name if device else None
    for number, group in enumerate(rank_groups(root, complexity.metrics, name, MAX_GROUPS), start=1):
        first, *rest = _broken(_name(group), screen.width - 5)
        yield _line(f"{number}. {first}".rjust(len(first) + 4), screen, indent=1, style="bold")
        for line in rest:
            yield _line(line, screen, indent=5, style="bold")
        yield _line(", ".join(_figures(group, complexity, name)), screen, indent=5)
        words = describe_bound(AdviceTarget(group, complexity, device))
        if words:
            yield _line(words, screen, indent=5)


def _name(group: ModuleGroup) -> str:
    """Return the path of the group. If its child modules do work too, ", itself" is added."""
    itself = ", itself" if any(any(child.total_metrics.values()) for child in group.children) else ""
    return f"{group.path or '(model)'}{itself}"


def _broken(path: str, room: int) -> list[str]:
    """Split a path into lines of at most ``room`` characters. The path is split after dots only."""
    lines = [""]
    for part in re.findall(r"[^.]*\.?", path):
        if lines[-1] and len(lines[-1]) + len(part) > room:
            lines.append("")
        lines[-1] += part
    return lines


def _figures(group: ModuleGroup, complexity: Complexity, device: str | None) -> Iterator[str]:
    keys = {"total_flops": "FLOPs", "memory_traffic": "bytes"}
    kind = " ".join(filter(None, (group.module.type, group.module.shape)))
    if kind:
        yield kind
    if device is not None:
        key = key_for("time", device)
        time = count_of(group.self_metrics, key)
        if time is not None:
            of_time = percent(share_of_total(group.self_metrics, complexity.metrics, key))
            yield f">={format_value(time, METRICS['time'])}, {of_time or '0%'} of time"
    for key, word in keys.items():
        part = share_of_total(group.self_metrics, complexity.metrics, key)
        if part is not None:
            yield f"{percent(part)} of {word}"
    if group.calls > 1:
        yield pluralize(group.calls, "call")


def _line(text: str, screen: Screen, *, indent: int = 2, style: str = "") -> RenderableType:
    return Padding(Text(screen.safe(text), style=style, overflow="fold"), (0, 0, 0, indent))
