"""Solve linear equations in exact rational numbers."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


#: A prime number. Rows are compared modulo it, which is fast. Rows that are independent modulo a prime number are
#: independent; the reverse fails for one in 10^18 rows, and then an expression is not found.
_PRIME = 2**61 - 1


class Independent:
    """Collects rows of whole numbers, as long as each new row is linearly independent of the rows before it."""

    def __init__(self) -> None:
        #: Column of the first number that is not 0 → the reduced row.
        self._rows: dict[int, list[int]] = {}

    def add(self, row: Iterable[int]) -> bool:
        """Add the row and return True, or return False if it is a combination of the rows that were added before."""
        rest = [value % _PRIME for value in row]
        for column, known in self._rows.items():
            factor = rest[column]
            if factor:
                rest = [(value - factor * other) % _PRIME for value, other in zip(rest, known, strict=True)]
        lead = next((column for column, value in enumerate(rest) if value), None)
        if lead is None:
            return False
        scale = pow(rest[lead], -1, _PRIME)
        self._rows[lead] = [value * scale % _PRIME for value in rest]
        return True


@lru_cache(maxsize=512)
def inverse(matrix: tuple[tuple[int, ...], ...]) -> tuple[tuple[Fraction, ...], ...]:
    """Return the inverse of a square matrix.

    Raises:
        ZeroDivisionError: the matrix has no inverse.
    """
    size = len(matrix)
    rows = [
        [*map(Fraction, row), *(Fraction(int(place == other)) for other in range(size))]
        for place, row in enumerate(matrix)
    ]
    for column in range(size):
        pivot = next((place for place in range(column, size) if rows[place][column]), None)
        if pivot is None:
            raise ZeroDivisionError("the matrix is singular")
        rows[column], rows[pivot] = rows[pivot], rows[column]
        lead = rows[column][column]
        rows[column] = [value / lead for value in rows[column]]
        for place in range(size):
            factor = rows[place][column]
            if place != column and factor:
                rows[place] = [value - factor * other for value, other in zip(rows[place], rows[column], strict=True)]
    return tuple(tuple(row[size:]) for row in rows)


def differences(values: Sequence[int]) -> list[int]:
    """Return the first value, and the first of the first, second, ... forward differences of the values."""
    found, rest = [], list(values)
    while rest:
        found.append(rest[0])
        rest = [after - before for before, after in pairwise(rest)]
    return found


def degree_of(values: Sequence[int]) -> int:
    """Return the degree of the polynomial of lowest degree through values at equal distances; 0 for zeros."""
    return max((place for place, value in enumerate(differences(values)) if value), default=0)
