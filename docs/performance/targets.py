"""Compare the results with the project's targets for time and memory."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from peers.counters import COUNTERS
from peers.verdict import RIGHT
from performance import depth
from performance.runners import CONSTANTS, FORWARD, OURS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from performance.results import Pair, Results

_MIB = 2**20
#: How many times as long the fastest other right counter has to take: median over models, and minimum.
FASTER_IN_THE_MIDDLE, FASTER = 8, 3
#: Maximum time of the second count, divided by that of the same passes with constant answers.
ABOVE_CONSTANTS = 1.5
#: Maximum seconds of the first count of the largest models, and maximum bytes that counting them may add.
LARGEST_SECONDS = {"Llama-3.1-405B": 0.4, "Llama-3.1-405B, forward and backward": 1.2}
LARGEST_GROWTH = 100e6
#: Maximum time of a count of all metrics, divided by that of a count of FLOPs alone.
ABOVE_ALONE = 1.3
#: Maximum time of a law of GPT-2, divided by that of a second count, by the sizes of the law.
ABOVE_A_COUNT = {"sequence": 12, "batch and sequence": 20}
#: Minimum R² of the straight line through the times of growing models.
STRAIGHT = 0.99
#: Maximum seconds that the plugin may add to a run that measures nothing, and to a test that measures.
STARTUP, A_TEST = 0.005, 0.001


@dataclass(frozen=True)
class Target:
    what: str
    #: The target and the result, in words.
    aim: str
    measured: str
    holds: bool


def fastest_right(pairs: Mapping[str, Pair]) -> tuple[str, float] | None:
    """Return (name, median seconds) of the fastest right counter except ours, or None if no other is right."""
    times = [
        (name, median(pair.first))
        for name, pair in pairs.items()
        if name in COUNTERS and name != OURS and pair.verdict == RIGHT and pair.first
    ]
    return min(times, key=lambda time: time[1]) if times else None


def beside_peers(results: Results) -> dict[str, float]:
    """Return {model: time of the fastest right counter / our time}, for first counts."""
    return {
        model: best[1] / median(ours.first)
        for model, pairs in results.models.items()
        if (ours := _of(pairs, OURS)) and (best := fastest_right(pairs))
    }


def beside_forward(results: Results, *, warm: bool) -> dict[str, float]:
    """Return {model: time of a forward pass on the CPU / our time of a first count}.

    If ``warm``, the forward pass is the second one of its process, and otherwise the first one.
    """
    return {
        model: median(forward.again if warm else forward.first) / median(ours.first)
        for model, pairs in results.models.items()
        if (ours := _of(pairs, OURS)) and (forward := _of(pairs, FORWARD))
    }


def beside_constants(results: Results) -> dict[str, float]:
    """Return {model: our time of a second count / time of a second run with constant answers}."""
    return {
        model: median(ours.again) / median(constants.again)
        for model, pairs in results.models.items()
        if (ours := _of(pairs, OURS)) and (constants := _of(pairs, CONSTANTS))
    }


def _of(pairs: Mapping[str, Pair], name: str) -> Pair | None:
    pair = pairs.get(name)
    return pair if pair and pair.first else None


def targets(results: Results) -> list[Target]:
    """Return each target for which there are results."""
    return [
        *_counts(results),
        *_metrics(results),
        *_laws(results),
        *_largest(results),
        *_growth(results),
        *_plugin(results),
    ]


def _counts(results: Results) -> Iterator[Target]:
    if ratios := beside_peers(results):
        middle, (model, minimum) = median(ratios.values()), _least(ratios)
        what = "first count, compared with the fastest other counter that is right"
        yield Target(
            f"{what}: median over models",
            f"≥ {FASTER_IN_THE_MIDDLE} times as fast",
            f"{middle:.1f}",
            middle >= FASTER_IN_THE_MIDDLE,
        )
        yield Target(
            f"{what}: every model", f"≥ {FASTER} times as fast", f"minimum {minimum:.1f} ({model})", minimum >= FASTER
        )
    for warm, word in ((False, "first"), (True, "warm")):
        if ratios := beside_forward(results, warm=warm):
            model, minimum = _least(ratios)
            yield Target(
                f"first count, compared with the {word} forward pass on the CPU: every model",
                "faster",
                f"minimum {minimum:.1f} times as fast ({model})",
                minimum > 1,
            )
    if ratios := beside_constants(results):
        model = max(ratios, key=ratios.__getitem__)
        middle, maximum = median(ratios.values()), ratios[model]
        yield Target(
            "second count, compared with the same passes with constant answers: every model",
            f"≤ {ABOVE_CONSTANTS} times as long",
            f"maximum {maximum:.2f} ({model}), median {middle:.2f}",
            maximum <= ABOVE_CONSTANTS,
        )


def _least(ratios: Mapping[str, float]) -> tuple[str, float]:
    return min(ratios.items(), key=lambda ratio: ratio[1])


def _metrics(results: Results) -> Iterator[Target]:
    for word, ratios in (
        ("first", [alone.first for alone in results.alone.values()]),
        ("later", [alone.again for alone in results.alone.values()]),
    ):
        if ratios:
            yield Target(
                f"{word} count of all metrics, compared with FLOPs alone: every model",
                f"≤ {ABOVE_ALONE} times as long",
                f"maximum {max(ratios):.2f}, median {median(ratios):.2f}",
                max(ratios) <= ABOVE_ALONE,
            )


def _laws(results: Results) -> Iterator[Target]:
    for sizes, found in results.laws.items():
        limit = ABOVE_A_COUNT[sizes]
        yield Target(
            f"GPT-2: law in {sizes}, compared with a second count",
            f"≤ {limit} times as long",
            f"{found.times:.1f}",
            found.times <= limit,
        )


def _largest(results: Results) -> Iterator[Target]:
    for model, limit in LARGEST_SECONDS.items():
        if pair := _of(results.models.get(model, {}), OURS):
            seconds, grown = median(pair.first), median(pair.memory)
            yield Target(f"{model}, 8,192 tokens: first count", f"≤ {limit} s", f"{seconds:.2f} s", seconds <= limit)
            yield Target(
                f"{model}: memory in addition to the built model",
                f"≤ {LARGEST_GROWTH / 1e6:.0f} MB",
                f"{grown / 1e6:.0f} MB",
                grown <= LARGEST_GROWTH,
            )


def _growth(results: Results) -> Iterator[Target]:
    if len(results.depth.first) < len(depth.LAYERS):
        return
    for word, times in (("first", results.depth.first), ("second", results.depth.again)):
        line = depth.line(times)
        yield Target(
            f"{word} count of {depth.LAYERS[0]} to {depth.LAYERS[-1]:,} layers: a straight line",
            f"R² ≥ {STRAIGHT}",
            f"{line.start * 1e3:.1f} ms + {line.slope * 1e6:.1f} µs per layer, R² {line.r_squared:.4f}",
            line.r_squared >= STRAIGHT,
        )


def _plugin(results: Results) -> Iterator[Target]:
    startup, suite = results.startup, results.suite
    if startup.without:
        seconds = median(startup.with_plugin) - median(startup.without)
        yield Target(
            "a pytest run without marked tests: time that the plugin adds",
            f"≤ {STARTUP * 1e3:.0f} ms",
            f"{seconds * 1e3:.1f} ms (the import {median(startup.imports) * 1e3:.1f} ms)",
            seconds <= STARTUP,
        )
        loaded = ", ".join(startup.loaded)
        yield Target(
            "a pytest run without marked tests: torch, msgspec, rich loaded", "none", loaded or "none", not loaded
        )
    if suite.count:
        own = median(suite.with_budget) - median(suite.count)
        budget = median(suite.with_budget) - median(suite.direct)
        yield Target(
            f"{suite.tests:,} tests that measure one model: time of a test without the count",
            f"≤ {A_TEST * 1e3:.0f} ms",
            f"{own * 1e3:.2f} ms ({budget * 1e3:.2f} ms more than a test without a budget)",
            own <= A_TEST,
        )
        grown = median(suite.growth_with_budget) - median(suite.growth_direct)
        yield Target(
            f"{suite.tests:,} tests that measure one model: memory that the plugin adds from test 100 to the last",
            "≤ 1 MiB",
            f"{grown / _MIB:.1f} MiB",
            grown <= _MIB,
        )
