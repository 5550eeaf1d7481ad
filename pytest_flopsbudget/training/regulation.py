"""The amounts of training compute at which texts of the European Union change what holds for a model."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Line:
    """An amount of cumulative training compute, and the text that draws it."""

    flops: int
    text: str
    meaning: str

    @property
    def name(self) -> str:
        """The amount as a power of ten: "10^25 FLOPs"."""
        return f"10^{len(str(self.flops)) - 1} FLOPs"


LINES = (
    Line(
        10**23,
        "European Commission, Guidelines on the scope of the obligations for general-purpose AI models, July 2025",
        "indicative criterion for a general-purpose AI model",
    ),
    Line(
        10**25,
        "Regulation (EU) 2024/1689 (AI Act), Article 51(2)",
        "presumption of high-impact capabilities, and so of systemic risk",
    ),
)

#: What a reader has to know about a comparison with `LINES`.
CAVEAT = (
    "these texts define which compute is cumulative training compute (synthetic data, discarded runs and later "
    "training may be part of it): check them; this is no legal advice"
)


def share_of(line: Line, flops: int | Fraction) -> float:
    """Return the FLOPs as a multiple of the line."""
    return float(Fraction(flops) / line.flops)
