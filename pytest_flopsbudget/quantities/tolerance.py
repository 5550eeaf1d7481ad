"""How much a metric may grow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The allowed growth over a baseline. A value passes if it is within the relative or the absolute allowance."""

    #: The relative allowance, as a share of the old value: 1/100 is one percent.
    relative: Fraction = Fraction(0)
    #: The absolute allowance, in the metric's unit.
    absolute: int = 0

    def growth(self, old: int) -> int:
        """Return the maximum growth from ``old`` that passes: the larger one of the two allowances."""
        return max(math.floor(old * self.relative), self.absolute)

    def allows(self, old: int, new: int) -> bool:
        """Return whether the growth from ``old`` to ``new`` is at most `growth`."""
        return new - old <= self.growth(old)
