"""Find the sizes for which a law is within a limit, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.laws.algebra.terms import constant
from pytest_flopsbudget.laws.algebra.whole_numbers import first_positive, positive_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.laws.algebra.domains import Domain
    from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw
    from pytest_flopsbudget.laws.algebra.terms import Expression


@dataclass(frozen=True, slots=True)
class Limit:
    """A question: for which sizes of a symbol is a metric at most a value?"""

    metric: str
    symbol: str
    #: The largest allowed value, in the unit of the metric.
    value: int
    #: The value as the user wrote it.
    text: str


@dataclass(frozen=True, slots=True)
class Solution:
    """The sizes of one symbol for which a law is within a limit."""

    #: The largest size that fits; None if no size fits.
    largest: int | None
    #: Size → value of the metric: for the largest size and the next size of the range, or for the smallest size if no
    #: size fits.
    values: Mapping[int, int]
    #: The smallest size that does not fit; None if all sizes of the range fit.
    first_too_large: int | None


def solve(law: MetricLaw, limit: Limit, others: Mapping[str, int]) -> Solution:
    """Return for which sizes the law is at most the limit.

    Args:
        law: the law of the limit's metric.
        limit: the limit.
        others: a size of every other symbol of the law.

    Raises:
        UsageError: there is no law, or it has no value at some of these sizes.
    """
    if not law.found:
        raise UsageError(f"{law.metric}: {law.reason}")
    symbol = limit.symbol
    pieces = [piece for piece in law.pieces if all(size in piece.domain.sizes(name) for name, size in others.items())]
    if sum(len(piece.domain.sizes(symbol)) for piece in pieces) < len(law.domain.sizes(symbol)):
        raise UsageError(
            f"{law.metric}: the law holds for some sizes of {symbol} only: {law.text(signs=False)}; choose a range of "
            "these sizes"
        )
    fits: list[int] = []
    too_large: list[int] = []
    for piece in pieces:
        expression = piece.expression
        for name, size in others.items():
            expression = expression.fixed(name, size)
        fitting, wrong = _ends(expression, limit.value, symbol, piece.domain)
        fits += [] if fitting is None else [fitting]
        too_large += [] if wrong is None else [wrong]
    largest = max(fits, default=None)
    sizes = law.domain[symbol]
    shown = [sizes[0]] if largest is None else [largest, largest + sizes.step]
    values = {size: law.at(**{**others, symbol: size}) for size in shown if size in sizes}
    return Solution(largest, values, min(too_large, default=None))


def _ends(expression: Expression, limit: int, symbol: str, domain: Domain) -> tuple[int | None, int | None]:
    """Return the largest size with a value of at most ``limit``, and the smallest size with a larger value."""
    sizes = domain[symbol]
    # The values are whole numbers: at most the limit is less than the limit + 1.
    within = constant(limit + 1) - expression
    largest = max((part[-1] for part in positive_sizes(within, symbol, sizes)), default=None)
    return largest, first_positive(expression - constant(limit), symbol, sizes)
