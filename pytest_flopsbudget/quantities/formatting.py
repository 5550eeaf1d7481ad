"""Write numbers with their units."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from pytest_flopsbudget.quantities.parsing import is_ratio
from pytest_flopsbudget.quantities.units import BINARY_PREFIXES, DECIMAL_PREFIXES

if TYPE_CHECKING:
    from pytest_flopsbudget.quantities.metrics import Metric


_SIGNIFICANT_DIGITS = 4
#: The maximum number of significant digits of a value that is not written exactly.
_MAX_DIGITS = 6
#: The difference of two short texts may differ from the exact difference by at most 1/10 of it.
_DIFFERENCE_ERROR = 10
#: From this percentage on, a change is shown as a factor. A reader compares "x711k", but not "71143961.0%".
_LARGEST_PERCENT = 1000
_FACTOR_DIGITS = 3
#: A whole number with more digits than this is written with an exponent, "1.000e+400".
_LONGEST_WHOLE = 40
#: The number of digits in one part. Python refuses to write an integer of more than 4,300 digits, so it is written in
#: parts.
_PART = 3_000


def format_value(value: int | Fraction, metric: Metric) -> str:
    """Format a value with at most four significant digits: "8.178 GFLOPs", "25.56 M", "97.49 MiB", "3.214 ms", "512".

    Trailing zeros show that the value was rounded: "8.200 GFLOPs". An exact value has none: "8.2 GFLOPs".
    """
    return _format_digits(value, metric, _SIGNIFICANT_DIGITS)


def format_exact(value: int | Fraction, metric: Metric) -> str:
    """Format a value exactly: "8,178,368,512 FLOPs"; a ratio is a fraction, "25/3 FLOPs/byte"."""
    number = Fraction(value)
    text = _grouped(number.numerator)
    if number.denominator != 1:
        text = f"{text}/{_grouped(number.denominator)}"
    return f"{text} {_notation(metric).unit}".rstrip()


def format_pair(a: int | Fraction, b: int | Fraction, metric: Metric) -> tuple[str, str]:
    """Format two values that a reader compares, with enough digits to see how much they differ.

    163,842 and 163,851 parameters are "163.842 k" and "163.851 k", because the difference of "163.8 k" and "163.9 k"
    would look eleven times as large as it is. If six digits are not enough, both values are written exactly. Ratios
    get more digits instead, until the two texts differ.
    """
    pair = format_value(a, metric), format_value(b, metric)
    digits = _SIGNIFICANT_DIGITS
    while a != b and not _tells_apart(a, b, metric, digits):
        digits += 1
        if digits > _MAX_DIGITS and not is_ratio(metric):
            return format_exact(a, metric), format_exact(b, metric)
        pair = _format_digits(a, metric, digits), _format_digits(b, metric, digits)
    return pair


def _tells_apart(a: int | Fraction, b: int | Fraction, metric: Metric, digits: int) -> bool:
    if is_ratio(metric):
        # "8.200 GFLOPs" (rounded) and "8.2 GFLOPs" (exact) look like the same number to a reader.
        first, second = (_without_zeros(_format_digits(value, metric, digits)) for value in (a, b))
        return first != second
    notation = _notation(metric)
    difference = Fraction(b) - a
    shown = _read_back(b, notation, digits) - _read_back(a, notation, digits)
    return _DIFFERENCE_ERROR * abs(shown - difference) <= abs(difference)


def _read_back(value: int | Fraction, notation: _Notation, digits: int) -> Fraction:
    """Return the number that a reader takes from the rounded text of ``value``."""
    rounded, power = _scaled(value, notation, digits)
    factor: int = notation.base**power
    return rounded * factor


def _format_digits(value: int | Fraction, metric: Metric, digits: int) -> str:
    notation = _notation(metric)
    rounded, power = _scaled(value, notation, digits)
    exact = rounded == Fraction(value) / notation.base**power
    return f"{_digits(rounded, digits, exact=exact)} {notation.prefixes[power]}{notation.word}".rstrip()


def _scaled(value: int | Fraction, notation: _Notation, digits: int) -> tuple[Fraction, int]:
    """Return the rounded number before the prefix, and the place of the prefix among the prefixes."""
    scaled = Fraction(value)
    rounded = _rounded(scaled, digits)
    for power in range(len(notation.prefixes)):
        if rounded < notation.base or power == len(notation.prefixes) - 1:
            return rounded, power
        scaled /= notation.base
        # Rounding can reach the next prefix: 1023.6 KiB are shown as 1.000 MiB, not 0.9996 MiB.
        rounded = max(Fraction(1), _rounded(scaled, digits))
    raise AssertionError("the last prefix returns")


def _without_zeros(short: str) -> str:
    return re.sub(r"\.?0+(?= |$)", "", short) if "." in short else short


def format_delta(delta: int | Fraction, metric: Metric) -> str:
    """Format a change with its sign and at most four significant digits: "+411.2 MFLOPs"; zero has no sign."""
    sign = "+" if delta > 0 else "-" if delta < 0 else ""
    return sign + format_value(-delta if delta < 0 else delta, metric)


def bound_sign(metric: Metric) -> str:
    """Return the sign before an estimate of a device: ">=" for a lower bound, "<=" for an upper bound."""
    return ">=" if metric.better == "less" else "<="


def bound_words(metric: Metric) -> str:
    """Return "at least" for an estimate that is a lower bound, and "at most" for one that is an upper bound."""
    return "at least" if metric.better == "less" else "at most"


def format_percent(old: int | Fraction, new: int | Fraction) -> str:
    """Format the change from ``old`` to ``new``: "+5.0%", "<0.01%", ">-0.01%", "0%"; "new" if ``old`` is 0.

    From eleven times the old value on, the factor is shown instead: "x12.3", "x711k".
    """
    if old == new:
        return "0%"
    if old == 0:
        return "new"
    percent = Fraction(100 * (new - old), old)
    if percent >= _LARGEST_PERCENT:
        return format_factor(Fraction(new) / old)
    if abs(percent) >= Fraction(1, 10):
        return f"{float(percent):+.1f}%"
    if abs(percent) >= Fraction(1, 100):
        return f"{float(percent):+.2f}%"
    return "<0.01%" if percent > 0 else ">-0.01%"


def format_factor(factor: Fraction) -> str:
    """Format a factor of at least 1, with three significant digits and a prefix: "x12.3", "x711k"."""
    rounded, power = _scaled(factor, _FACTOR, _FACTOR_DIGITS)
    return f"x{_digits(rounded, _FACTOR_DIGITS, exact=rounded.denominator == 1)}{DECIMAL_PREFIXES[power]}"


class _Notation(NamedTuple):
    """The way in which values of a metric are written."""

    prefixes: tuple[str, ...]
    #: The factor between one prefix and the next.
    base: int
    #: The word after the prefix.
    word: str
    #: The unit of an exact value, which has no prefix.
    unit: str


_FACTOR = _Notation(DECIMAL_PREFIXES, 1000, "", "")


def _notation(metric: Metric) -> _Notation:
    if metric.unit == "bytes":
        return _Notation(BINARY_PREFIXES, 1024, "B", "B")
    if metric.unit == "ns":
        return _Notation(("n", "u", "m", ""), 1000, "s", "ns")
    if metric.unit == "tokens/s":
        return _Notation(
            tuple(f"{prefix} " if prefix else "" for prefix in DECIMAL_PREFIXES), 1000, "tokens/s", "tokens/s"
        )
    word = "" if metric.unit == "count" else metric.unit
    return _Notation(DECIMAL_PREFIXES, 1000, word, word)


def _decimals(number: Fraction, digits: int) -> int:
    """Return how many decimals ``number`` needs to show ``digits`` significant digits."""
    if 0 < number < 1:
        # Leading zeros are not significant: 0.08333 FLOPs/byte has four digits.
        return digits + _count_digits(math.ceil(1 / number) - 1) - 1
    return max(0, digits - _count_digits(math.floor(number)))


def _count_digits(number: int) -> int:
    """Return the number of decimal digits of a whole number of any size; 0 has one digit."""
    # The logarithm of 2 gives a lower bound. For any number that fits into memory, it is too small by at most one.
    count = max(1, int((number.bit_length() - 1) * math.log10(2)))
    while number >= 10**count:
        count += 1
    return count


def _grouped(number: int) -> str:
    """Write a whole number of any size exactly, with its digits in groups of three."""
    parts = []
    while number >= 10**_PART:
        number, part = divmod(number, 10**_PART)
        # The leading 1, which is cut off, keeps the zeros at the beginning of the part.
        parts.append(f"{10**_PART + part:,}".removeprefix("1,"))
    return ",".join([f"{number:,}", *reversed(parts)])


def _whole(number: int) -> str:
    """Write a whole number. A number with very many digits is written with an exponent: "1.235e+400"."""
    exponent = _count_digits(number) - 1
    if exponent < _LONGEST_WHOLE:
        return str(number)
    # Digits are cut off and not rounded, because the text only shows the size of the number.
    leading = str(number // 10 ** (exponent - _SIGNIFICANT_DIGITS + 1))
    return f"{leading[0]}.{leading[1:]}e+{exponent}"


def _rounded(number: Fraction, digits: int) -> Fraction:
    return round(number, _decimals(number, digits))


def _digits(number: Fraction, digits: int, *, exact: bool) -> str:
    """Write a number with ``digits`` significant digits. If ``exact`` is true, trailing zeros are left out: "8.2"."""
    decimals = _decimals(number, digits)
    if number.denominator == 1 and (exact or decimals == 0):
        return _whole(math.floor(number))
    # These are whole numbers and not floats, because the numbers in a damaged file may exceed any float.
    whole, rest = divmod(round(number * 10**decimals), 10**decimals)
    text = f"{whole}.{rest:0{decimals}d}" if decimals else _whole(whole)
    return text.rstrip("0") if exact else text
