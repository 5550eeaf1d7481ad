"""Format the results as the tables of docs/performance.md."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from peers.table import markdown
from peers.verdict import RIGHT
from performance import depth, schedule
from performance.models import MODELS
from performance.runners import CONSTANTS, FORWARD, FORWARD_ON_META, OURS, RUNNERS
from performance.targets import beside_constants, beside_forward, beside_peers, fastest_right, targets

if TYPE_CHECKING:
    from performance.results import Pair, Results

NOT_MEASURED = "–"
CHART = "performance/chart.svg"


def measured(results: Results) -> str:
    """Return the part of the page that is made from the results."""
    parts = [
        "## Machine", markdown(["", ""], list(map(list, results.machine.items()))),
        "## Targets", targets_of(results),
        "## The first count", f"![First count, fastest other right counter and forward pass, per model]({CHART})",
        _ratios(results), "### All counters", _KEY, _overview(results),
        "## The second count", _second(results),
        "## All metrics, and FLOPs alone", _alone(results),
        "## Growth laws", _laws(results),
        "## Depth", _depth(results),
        "## A run of pytest", _runs(results),
        "## Every measurement", _EVERY.format(rounds=results.rounds, enough=schedule.ENOUGH), *_details(results),
    ]  # fmt: skip
    return "\n\n".join(parts)


_KEY = """\
Median milliseconds of the first count in a fresh process. A time without a remark belongs to a counter that is right.
×0.96 is the counter's number divided by the closed form, (w) means that it warns, – that it does not
offer the count."""
_ALONE = """\
Processor time, the shortest of several runs in one process: with all metrics, and without the code that follows bytes,
launches and chains. "First" runs remember no answers about operators, as in a process that sees its first model."""
_LAWS = """\
Processor time in one process with one thread, medians over several turns. The law covers all metrics, modules and
operators of GPT-2. The second count is of 512 tokens."""
_EVERY = """\
Rounds: {rounds}. A counter does not run on a model again once its processes for that model have taken {enough:.0f}
seconds together, including building the model, or once it has raised an exception."""


def targets_of(results: Results) -> str:
    rows = [
        [target.what, target.aim, target.measured, "yes" if target.holds else "**no**"] for target in targets(results)
    ]
    return markdown(["what", "target", "measured", "holds"], rows)


def _ratios(results: Results) -> str:
    peers, first = beside_peers(results), beside_forward(results, warm=False)
    warm = beside_forward(results, warm=True)
    rows = []
    for name in MODELS:
        pairs = results.models.get(name, {})
        best = fastest_right(pairs)
        rows.append(
            [
                name,
                _milliseconds(pairs.get(OURS)),
                NOT_MEASURED if best is None else f"{best[1] * 1e3:,.1f} ({best[0]})",
                _times(peers.get(name)),
                _milliseconds(pairs.get(FORWARD)),
                _times(first.get(name)),
                _times(warm.get(name)),
            ]
        )
    header = [
        "model",
        "first count, ms",
        "fastest other right counter, ms",
        "times as long",
        "first forward on the CPU, ms",
    ]
    return markdown([*header, "times as long", "warm forward, times as long"], rows)


def _overview(results: Results) -> str:
    shown = [name for name in RUNNERS if name != CONSTANTS]
    rows = [[model, *(_cell(results.models.get(model, {}).get(name)) for name in shown)] for model in MODELS]
    return markdown(["model", *shown], rows)


def _cell(pair: Pair | None) -> str:
    if pair is None:
        return NOT_MEASURED
    return " ".join(filter(None, [_milliseconds(pair) if pair.first else "", _wrong(pair)]))


def _wrong(pair: Pair) -> str:
    return "" if pair.verdict == RIGHT else pair.verdict


def _second(results: Results) -> str:
    ratios, rows = beside_constants(results), []
    for model in MODELS:
        pairs = results.models.get(model, {})
        cells = [_milliseconds(pairs.get(name), again=True) for name in (OURS, CONSTANTS, FORWARD_ON_META, FORWARD)]
        rows.append([model, *cells, _times(ratios.get(model))])
    header = ["model", "second count, ms", "constant answers, ms", "forward on meta, ms", "forward on the CPU, ms"]
    return markdown([*header, "count / constant answers"], rows)


def _alone(results: Results) -> str:
    rows = []
    for model, alone in results.alone.items():
        first, first_alone, again, again_alone = (f"{seconds * 1e3:,.1f}" for seconds in alone.seconds)
        ratios = (f"{ratio:.2f}" for ratio in (alone.first, alone.again))
        rows.append([model, first, first_alone, next(ratios), again, again_alone, next(ratios)])
    header = ["model", "first, ms", "FLOPs alone, ms", "times as long", "later, ms", "FLOPs alone, ms"]
    return f"{_ALONE}\n\n" + markdown([*header, "times as long"], rows)


def _laws(results: Results) -> str:
    rows = [
        [
            f"law in {sizes}",
            str(found.counts),
            f"{median(found.law) * 1e3:,.1f}",
            f"{median(found.count) * 1e3:,.1f}",
            f"{found.times:.1f}",
        ]
        for sizes, found in results.laws.items()
    ]
    return f"{_LAWS}\n\n" + markdown(["", "counts", "law, ms", "second count, ms", "times as long"], rows)


def _depth(results: Results) -> str:
    rows = []
    for layers in map(str, depth.LAYERS):
        first, again = (times.get(layers, []) for times in (results.depth.first, results.depth.again))
        if first:
            one, two = median(first), median(again)
            each = [f"{seconds / int(layers) * 1e6:,.1f}" for seconds in (one, two)]
            rows.append([f"{int(layers):,}", f"{one * 1e3:,.1f}", each[0], f"{two * 1e3:,.1f}", each[1]])
    header = ["layers", "first count, ms", "µs per layer", "second count, ms", "µs per layer"]
    return markdown(header, rows)


def _runs(results: Results) -> str:
    startup, suite = results.startup, results.suite
    rows = [
        ["a run of pytest without marked tests, with the plugin", *_spread(startup.with_plugin)],
        ["a run of pytest without marked tests, with `-p no:flopsbudget`", *_spread(startup.without)],
        ["import of the plugin, from `-X importtime`", *_spread(startup.imports)],
        ["a test that measures a small model within its budget", *_spread(suite.with_budget)],
        ["a test that calls `measure` on the same model", *_spread(suite.direct)],
        ["the count itself, in those tests", *_spread(suite.count)],
    ]
    return markdown(["", "median, ms", "minimum, ms", "runs"], rows)


def _spread(seconds: list[float]) -> list[str]:
    if not seconds:
        return [NOT_MEASURED] * 3
    return [f"{median(seconds) * 1e3:,.2f}", f"{min(seconds) * 1e3:,.2f}", str(len(seconds))]


def _details(results: Results) -> list[str]:
    parts = []
    for model, asked in MODELS.items():
        if pairs := results.models.get(model):
            summary = f"<summary>{model}: {asked.case.flops:,} FLOPs</summary>"
            parts.append(f"<details>{summary}\n\n{_detail(pairs)}\n\n</details>")
    return parts


def _detail(pairs: dict[str, Pair]) -> str:
    rows = [
        [name, *_spread(pairs[name].first), _mebibytes(pairs[name]), pairs[name].verdict or NOT_MEASURED]
        for name in RUNNERS
        if name in pairs
    ]
    return markdown(["", "median, ms", "minimum, ms", "runs", "peak memory, MiB", "number"], rows)


def _mebibytes(pair: Pair) -> str:
    return f"{median(pair.memory) / 2**20:,.0f}" if pair.memory else NOT_MEASURED


def _milliseconds(pair: Pair | None, *, again: bool = False) -> str:
    times = (pair.again if again else pair.first) if pair else []
    return f"{median(times) * 1e3:,.1f}" if times else NOT_MEASURED


def _times(ratio: float | None) -> str:
    return NOT_MEASURED if ratio is None else f"{ratio:,.1f}"
