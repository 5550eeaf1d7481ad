"""Run a counter on a case in a separate process and judge its number."""

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
    """Return the text for this counter and this case in the table of the comparison."""
    if not counter.answers(case):
        return NOT_OFFERED
    return in_words(isolated(_measured, counter.name, case.name), case)


def _measured(counter: str, case: str) -> float:
    """Return the FLOPs that the counter reports for the case. The arguments are names, because names can be pickled."""
    torch.manual_seed(0)
    asked = CASES[case]
    model, args = asked.build()
    model.eval()
    with asked.surroundings():
        return COUNTERS[counter].asked(model, args, asked)
