"""How much a metric may grow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Growth over a baseline that still passes: to be within either allowance is enough."""

    #: A share of the old value: 1/100 is one percent.
    relative: Fraction = Fraction(0)
    #: An amount in the metric's own unit.
    absolute: int = 0

    def growth(self, old: int) -> int:
        """The most growth from ``old`` that passes: the larger of the two allowances."""
        return max(math.floor(old * self.relative), self.absolute)

    def allows(self, old: int, new: int) -> bool:
        """Whether growth from ``old`` to ``new`` is within the larger of the two allowances, compared exactly."""
        return new - old <= self.growth(old)
