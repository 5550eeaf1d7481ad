"""The order of the measurements. All runners take turns, so that other work on the machine affects all of them."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from performance.process import begin, measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from performance.models import Model
    from performance.results import Pair, Results
    from performance.runners import Runner

ROUNDS = 5
#: Total seconds of a runner's processes on a model after which the runner does not run on it again.
ENOUGH = 4.0


def in_turn(
    models: Sequence[Model], runners: Iterable[Runner], rounds: int, results: Results, save: Callable[[], None]
) -> None:
    """Run each runner on each model ``rounds`` times, each time in a new process."""
    begin()
    pairs = [(model, runner) for model in models for runner in runners if runner.answers(model)]
    for number in range(rounds):
        for model, runner in pairs:
            pair = results.pair(model.name, runner.name)
            if number < len(pair.processes) or enough(pair):
                continue
            print(f"round {number + 1}, {model.name}, {runner.name}: {_measure(model, runner, pair)}", flush=True)
            save()


def enough(pair: Pair) -> bool:
    """Return whether the pair needs no further round."""
    failed = bool(pair.processes) and not pair.first
    return failed or sum(pair.processes) >= ENOUGH


def _measure(model: Model, runner: Runner, pair: Pair) -> str:
    start = perf_counter()
    sample, pair.verdict = measured(runner, model)
    pair.processes.append(perf_counter() - start)
    if sample is None:
        return pair.verdict
    pair.first.append(sample.first)
    pair.memory.append(sample.memory)
    if sample.again is not None:
        pair.again.append(sample.again)
    again = "" if sample.again is None else f", then {sample.again * 1e3:,.1f} ms"
    return f"{sample.first * 1e3:,.1f} ms{again}, {sample.memory / 2**20:,.0f} MiB {pair.verdict}"
