"""Compare the time of a growth law with that of a second count of the same model."""

from __future__ import annotations

from functools import partial
from statistics import median
from time import process_time
from typing import TYPE_CHECKING, Any

from peers.isolation import isolated
from performance.models import MODELS
from performance.process import built

if TYPE_CHECKING:
    from collections.abc import Callable

    from performance.results import LawTimes

MODEL = "GPT-2"
TURNS = 9
_COUNTS = 5
#: What the law is of → the sizes of the law.
LAWS = {
    "sequence": {"sequence": range(16, 1025)},
    "batch and sequence": {"batch": range(1, 33), "sequence": range(16, 1025)},
}


def in_turn(results: dict[str, LawTimes], save: Callable[[], None]) -> None:
    """Measure all laws by turns in one separate process with one thread."""
    if results.keys() >= LAWS.keys():
        return
    ended = isolated(_sample)
    if ended.value is None:
        raise RuntimeError(f"laws of {MODEL}: {ended.failure}\n{ended.text}")
    results.update(ended.value)
    for name, found in results.items():
        print(f"law of {MODEL} in {name}: {found.times:.1f} times as long as a second count", flush=True)
    save()


def _sample() -> dict[str, LawTimes]:
    import torch

    from performance.results import LawTimes
    from pytest_flopsbudget import law, measure

    torch.set_num_threads(1)
    model, _ = built(MODELS[MODEL])

    def tokens(sequence: int, batch: int = 1) -> torch.Tensor:
        return torch.zeros(batch, sequence, dtype=torch.long)

    def seconds(call: Callable[[], Any]) -> float:
        start = process_time()
        call()
        return process_time() - start

    results = {
        name: LawTimes(counts=len(law(model, tokens, **sizes).counted))  # type: ignore[arg-type] # mypy: as options
        for name, sizes in LAWS.items()
    }
    for _ in range(TURNS):
        count = median(seconds(lambda: measure(model, tokens(512))) for _ in range(_COUNTS))
        for name, sizes in LAWS.items():
            results[name].count.append(count)
            results[name].law.append(seconds(partial(law, model, tokens, **sizes)))  # type: ignore[arg-type]
    return results
