"""The law of a Python function of sizes, such as a project's formula for FLOPs per token."""

from __future__ import annotations

import inspect
import math
from fractions import Fraction
from itertools import islice, product
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.laws.algebra.domains import short_names
from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw, Piece
from pytest_flopsbudget.laws.counts import Count, Counts, Key, TooManyCountsError
from pytest_flopsbudget.laws.search import Search
from pytest_flopsbudget.quantities.parsing import nearest_spelling
from pytest_flopsbudget.results.complexity import Complexity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_flopsbudget.laws.algebra.domains import Domain, Point

_DEGREE = 4
_MOST_CALLS = 5_000
_KEY = Key("module", "", "flops")
#: From this number on, a float is not exact.
_LARGEST_FLOAT = 2.0**53
#: Formulas divide by small numbers, as in S / 2.
_LARGEST_DENOMINATOR = 1_000
_PROBED = 32


class SizeFunction:
    """A Python function of sizes, whose values are exact numbers.

    Args:
        function: the function. Its parameters are symbols of the domain, or keys of ``given``.
        name: the name of the function, for messages.
        domain: the sizes.
        given: parameter → value, for other parameters, such as "model".

    Raises:
        UsageError: a parameter without a default is neither a symbol nor given.
    """

    def __init__(
        self, function: Callable[..., Any], name: str, domain: Domain, given: Mapping[str, Any] | None = None
    ) -> None:
        self._function, self.name, self._domain = function, name, domain
        parameters = _parameters(function, name)
        self._given = {key: value for key, value in (given or {}).items() if key in parameters}
        #: The symbols of the domain that the function takes.
        self.symbols = tuple(symbol for symbol in domain.symbols if symbol in parameters)
        known = [*domain.symbols, *(given or {})]
        missing = [key for key, has_default in parameters.items() if not has_default and key not in known]
        if missing:
            near = nearest_spelling(missing[0], domain.symbols)
            hint = f"did you mean {{{near}}}?" if near else f"the sizes are {', '.join(domain.symbols)}"
            raise UsageError(f"{name} takes {missing[0]!r}, which is no size; {hint}")

    def at(self, point: Point) -> Fraction:
        """Return the value at a point.

        Raises:
            UsageError: the function raises an error, or its value is no exact number.
        """
        sizes = self._domain.named(point)
        arguments = {symbol: sizes[symbol] for symbol in self.symbols}
        shown = f"{self.name}({', '.join(f'{symbol}={size}' for symbol, size in arguments.items())})"
        try:
            value = self._function(**arguments, **self._given)
        except Exception as error:
            line = (str(error).strip().splitlines() or [""])[0]
            raise UsageError(f"{shown} raised {type(error).__name__}: {line}") from error
        return _exact(value, shown)

    def law(self, settings: set[int]) -> MetricLaw:
        """Return the law of the function, for metric "flops".

        Args:
            settings: numbers that may be periods or places where the law changes, such as windows.

        Raises:
            UsageError: the function raises an error, or its value is no exact number.
        """
        points = islice(dict.fromkeys([*self._domain.corners(), *self._domain.spread_points(_PROBED)]), _PROBED)
        scale = math.lcm(*(self.at(point).denominator for point in points))
        letters = short_names(self._domain.symbols)
        if scale > _LARGEST_DENOMINATOR:
            return MetricLaw(
                "flops", self._domain, (), f"{self.name} has no exact law: its values are fractions", letters
            )
        counts = _Values(self, self._domain, scale, settings)
        pieces, reason = Search(counts, _KEY, self._domain, _DEGREE).run()
        scaled = tuple(Piece(piece.domain, piece.expression.scaled(Fraction(1, scale))) for piece in pieces)
        found = MetricLaw("flops", self._domain, scaled, reason, letters)
        # A function of Python may do anything at a single size, and calls of it take microseconds.
        wrong = next((point for point in self.points() if found.found and not self._agrees(found, point)), None)
        if wrong is None:
            return found
        return MetricLaw("flops", self._domain, (), f"{self.name} has no law: it differs at {wrong}", letters)

    def points(self) -> Iterator[Point]:
        """Yield all points of the domain, or many that are far from each other if the domain has more."""
        domain = self._domain
        if len(domain) <= _MOST_CALLS:
            yield from product(*(domain.sizes(symbol) for symbol in domain.symbols))
        else:
            yield from dict.fromkeys([*domain.corners(), *domain.spread_points(_MOST_CALLS)])

    def _agrees(self, law: MetricLaw, point: Point) -> bool:
        named = self._domain.named(point)
        piece = next((piece for piece in law.pieces if piece.domain.contains(named)), None)
        return piece is not None and piece.expression.at(named) == self.at(point)


class _Values(Counts):
    """The values of a function in place of counts of a model, times a number that makes them whole."""

    def __init__(self, function: SizeFunction, domain: Domain, scale: int, settings: set[int]) -> None:
        super().__init__(None, function.at, domain, largest=_MOST_CALLS)
        self._of, self._scale = function, scale
        self.settings = settings

    def at(self, point: Point) -> Count:
        known = self.made.get(point)
        if known is None:
            value = self._of.at(point) * self._scale
            if len(self.made) >= self.largest or value.denominator != 1:
                raise TooManyCountsError
            metrics = {"flops": value.numerator}
            found = Complexity(model="", inputs=(), execution="shapes", modules={}, metrics=metrics)
            known = self.made[point] = Count(found, 0, 0)
        return known


def _parameters(function: Callable[..., Any], name: str) -> dict[str, bool]:
    """Return parameter → whether it has a default."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} has no readable parameters; write a Python function of the sizes") from error
    found = {}
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise UsageError(
                f"{name}: the parameter {parameter.name!r} cannot be given by its name; remove the / after it"
            )
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            found[parameter.name] = parameter.default is not parameter.empty
    return found


def _exact(value: Any, shown: str) -> Fraction:
    # Numbers of NumPy and PyTorch have `item`.
    item = getattr(value, "item", None)
    value = item() if callable(item) else value
    if isinstance(value, bool) or not isinstance(value, (int, float, Fraction)):
        raise UsageError(f"{shown} returned a value of type {type(value).__name__}; a formula returns a number")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UsageError(f"{shown} returned {value}; a formula returns a number")
        if abs(value) > _LARGEST_FLOAT:
            raise UsageError(
                f"{shown} returned a float above 2^53, which is rounded; return a whole number: write // in place of "
                "/, and 10**12 in place of 1e12"
            )
    return Fraction(value)


def constants_of(function: Callable[..., Any]) -> set[int]:
    """Return the whole numbers above 1 in the code of a function, and its global and enclosed variables."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return set()
    enclosed = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if _has_contents(cell)]
    variables = getattr(function, "__globals__", {})
    values = [*code.co_consts, *enclosed, *(variables.get(name) for name in code.co_names)]
    return {value for value in values if type(value) is int and value > 1}


def _has_contents(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 -- reading an empty cell raises an error
    except ValueError:
        return False
    return True
