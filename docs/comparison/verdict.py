"""One counter's number beside the closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from comparison.cases import CASES
from comparison.counters import COUNTERS, admits, raised
from comparison.isolation import isolated

if TYPE_CHECKING:
    from comparison.cases import Case
    from comparison.counters import Counter
    from comparison.isolation import Ended

RIGHT = "right"
NOT_OFFERED = "–"
ADMITTED = " (w)"


def verdict(counter: Counter, case: Case) -> str:
    """What stands in the table."""
    if not counter.answers(case):
        return NOT_OFFERED
    return _in_words(isolated(_measured, counter.name, case.name), case)


def _measured(counter: str, case: str) -> float:
    """Runs in a process of its own, and therefore takes names."""
    torch.manual_seed(0)
    asked = CASES[case]
    model, args = asked.build()
    model.eval()
    with asked.surroundings():
        return COUNTERS[counter].count(model, args, asked)


def _in_words(ended: Ended[float], case: Case) -> str:
    if ended.failure in {"timeout", "crash"}:
        return ended.failure
    if ended.value is None:
        return f"raises {raised(ended.text) or ended.failure}"
    if case.flops <= ended.value <= case.flops * (1 + case.excess):
        return RIGHT
    return _ratio(ended.value / case.flops) + (ADMITTED if admits(ended.text) else "")


def _ratio(ratio: float) -> str:
    if not ratio:
        return "0"
    close_to_right, small = 0.9 < ratio < 1.1, ratio < 0.1  # noqa: PLR2004 -- where two decimals would say too little
    return f"×{ratio:.3f}" if close_to_right or small else f"×{ratio:.2f}"
