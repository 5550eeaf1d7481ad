"""Describe the memory at the peak, what bounds the time, and the latency of a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.hardware.roofline import bound_of
from pytest_flopsbudget.quantities.formatting import format_percent, format_value
from pytest_flopsbudget.quantities.metrics import METRICS, count_of, devices_in, key_for
from pytest_flopsbudget.results.data import MEMORY_KINDS
from pytest_flopsbudget.safe_text import pluralize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.verdict import Verdict


_PARTS = METRICS["time"].derived


def detail_lines(complexity: Complexity) -> Iterator[str]:
    """Yield the lines on memory, time and latency, if they were measured."""
    yield from peak_lines(complexity)
    yield from time_lines(complexity)
    yield from latency_lines(complexity)


def peak_lines(complexity: Complexity) -> Iterator[str]:
    """Describe the memory alive at the peak: "peak 1.21 GiB in layer1.0.conv2 (aten.convolution): 0.8 GiB …"."""
    peak = complexity.memory_at_peak
    if peak is None:
        return
    row = METRICS["peak_memory"]
    kinds = {kind.replace("_", " "): getattr(peak, kind) for kind in MEMORY_KINDS}
    # Sorting is stable: equal kinds keep their order.
    alive = sorted((kind for kind, amount in kinds.items() if amount), key=lambda kind: -kinds[kind])
    words = ", ".join(f"{format_value(kinds[kind], row)} {kind}" for kind in alive)
    place = peak.module or "the model itself"
    yield f"peak {format_value(peak.total, row)} in {place} ({peak.operator}){': ' if words else ''}{words}"


def time_lines(complexity: Complexity) -> Iterator[str]:
    """Describe what bounds each time: "A100: at least 1.31 ms (estimate), memory-bound (compute 0.4 ms, …)"."""
    for device in devices_in(complexity.metrics):
        total = count_of(complexity.metrics, key_for("time", device))
        if total is not None:
            compute, memory, launch = parts_of_time(complexity.metrics, device)
            parts = f"compute {_time(compute)}, memory {_time(memory)}, launches {_time(launch)}"
            bound = bound_of(compute, memory, launch)
            yield f"{device}: at least {_time(total)} (estimate), {bound}-bound ({parts})"


def bounded_time(metrics: Mapping[str, int], device: str) -> str:
    """Return a module's minimum time and what bounds it: ">=812.5 us memory"; empty if it takes no time."""
    total = count_of(metrics, key_for("time", device))
    return f">={_time(total)} {bound_of(*parts_of_time(metrics, device))}" if total else ""


def latency_lines(complexity: Complexity) -> Iterator[str]:
    """Describe the measured latency, and the share of the device's peak rates that it reaches."""
    measured = complexity.timing
    if measured is None:
        return
    reached = [
        f"{share * 100:.3g}% of {what}"
        for share, what in ((measured.share_of_roofline, "the roofline"), (measured.mfu, "peak FLOP/s (MFU)"))
        if share is not None
    ]
    used = f"; {', '.join(reached)}" if reached else ""
    runs, threads = pluralize(measured.runs, "run"), pluralize(measured.threads, "thread")
    yield (
        f"latency on {measured.machine}: {_time(measured.median_ns)}, the median of {runs} on {threads}, "
        f"quartiles {_time(measured.q1_ns)} and {_time(measured.q3_ns)}{used}"
    )


def noisy_latency_lines(verdict: Verdict) -> Iterator[str]:
    """Explain why a latency was not judged, if a limit or the baseline would apply to it."""
    for one in verdict.unjudged:
        if not one.has_budget:
            continue
        spread, allowed = (
            format_percent(one.median_ns, one.median_ns + part).lstrip("+") for part in (one.spread_ns, one.allowed_ns)
        )
        yield (
            f"latency not judged: its spread, {spread}, is wider than its tolerance, {allowed}: measure where nothing "
            "else runs, or give tolerance.latency more"
        )


def parts_of_time(metrics: Mapping[str, int], device: str) -> tuple[int, int, int]:
    """Return the nanoseconds that compute, memory and launches take on ``device``."""
    compute, memory, launch = (metrics.get(key_for(part, device), 0) for part in _PARTS)
    return compute, memory, launch


def _time(nanoseconds: int) -> str:
    return format_value(nanoseconds, METRICS["time"])
