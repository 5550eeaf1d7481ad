"""What a counter says of a case, asked in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from comparison.cases import CASES
from peers.counters import COUNTERS
from peers.isolation import isolated
from peers.verdict import NOT_OFFERED, in_words

if TYPE_CHECKING:
    from peers.case import Case
    from peers.counters import Counter


def verdict(counter: Counter, case: Case) -> str:
    """What stands in the table."""
    if not counter.answers(case):
        return NOT_OFFERED
    return in_words(isolated(_measured, counter.name, case.name), case)


def _measured(counter: str, case: str) -> float:
    """Runs in a process of its own, and therefore takes names."""
    torch.manual_seed(0)
    asked = CASES[case]
    model, args = asked.build()
    model.eval()
    with asked.surroundings():
        return COUNTERS[counter].asked(model, args, asked)
