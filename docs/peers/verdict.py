"""Compare one counter's number with the closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.counters import admits, raised

if TYPE_CHECKING:
    from peers.case import Case
    from peers.isolation import Ended

RIGHT = "right"
NOT_OFFERED = "–"
ADMITTED = " (w)"


def in_words(ended: Ended[float], case: Case) -> str:
    """Return the text for a result in a table: "right", a ratio, or the error."""
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
    close_to_right, small = 0.9 < ratio < 1.1, ratio < 0.1  # noqa: PLR2004 -- two decimals would show too little
    return f"×{ratio:.3f}" if close_to_right or small else f"×{ratio:.2f}"
