"""Quantities as people write them ("8.2 GFLOPs", "25.6M", "96 MiB", "1%") and the whole numbers that they mean."""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from pytest_flopsbudget.results.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flopsbudget.results.metrics import Metric, Unit

_DECIMAL = ("", "k", "M", "G", "T", "P", "E")
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
#: Prefix → what it multiplies by: powers of 1000, and of 1024.
DECIMAL_FACTORS = {prefix: 1000**power for power, prefix in enumerate(_DECIMAL)} | {"K": 1000}
BINARY_FACTORS = {prefix: 1024**power for power, prefix in enumerate(_BINARY)}
_WORDS: Mapping[Unit, Mapping[str, Fraction | int]] = {
    "FLOPs": {"": 1, "FLOP": 1, "FLOPs": 1, "MAC": 2, "MACs": 2},
    "MACs": {"": 1, "MAC": 1, "MACs": 1, "FLOP": Fraction(1, 2), "FLOPs": Fraction(1, 2)},
}
#: Unit of a ratio → the words for what it is over.
_OVER: Mapping[Unit, tuple[str, ...]] = {"FLOPs/byte": ("byte", "B"), "FLOPs/step": ("step",)}
_TIMES: Mapping[str, int] = {
    "ns": 1,
    "us": 10**3,
    "\N{MICRO SIGN}s": 10**3,
    "\N{GREEK SMALL LETTER MU}s": 10**3,
    "ms": 10**6,
    "s": 10**9,
}

# Patterns are compiled at first use: most runs of pytest have nothing to parse.
_NUMBER = (
    r"(?P<sign>[+-]?)"
    r"(?P<digits>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+(?:_[0-9]+)*)"
    r"(?P<rest>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2}(?![0-9]))?)"
    r"\s*(?P<unit>(?![0-9.,_+-]).*)"
)
_RATE = r"(?P<prefix>(?i:[kMGTPE]?))(?:FLOPS|(?P<word>(?i:flops?|macs?))(?:/|per)s(?:ec(?:ond)?)?)"
#: No amount needs more; keeps Python's own limit on the digits of an integer out of sight.
_LONGEST_TEXT = 100
_SIGNIFICANT_DIGITS = 4
#: Beyond it, a decimal says nothing; and what a damaged file holds may be larger than any float.
_LARGEST_PERCENT = 10**15

_EXAMPLES: Mapping[Unit, str] = {
    "FLOPs": '"8.2 GFLOPs" or "4.1 GMACs"',
    "MACs": '"4.1 GMACs" or "8.2 GFLOPs"',
    "count": '"25.6M" or 25_600_000',
    "bytes": '"96 MiB" or "100 MB"',
    "ns": '"3 ms" or "400 us"',
    "FLOPs/byte": '"10 FLOPs/byte" or 0.5',
    "FLOPs/step": '"1.2k FLOPs/step" or 1200',
}
_ALLOWED: Mapping[Unit, str] = {
    "FLOPs": "FLOPs or MACs, after k, M, G, T, P, E or none",
    "MACs": "MACs or FLOPs, after k, M, G, T, P, E or none",
    "count": "k, M, G, T, P, E, B (billions) or none",
    "bytes": "B, kB, MB, GB ... (powers of 1000), KiB, MiB, GiB ... (powers of 1024)",
    "ns": "s, ms, us, ns",
    "FLOPs/byte": "FLOPs/byte or MACs/byte, after k, M, G, T, P, E or none",
    "FLOPs/step": "FLOPs/step or MACs/step, after k, M, G, T, P, E or none",
}


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


def parse_quantity(value: object, metric: Metric) -> int:
    """The amount that ``value`` means, in the unit of ``metric``, rounded down.

    Measured values are whole numbers, so the same ones are within a limit before and after it is rounded down.

    Args:
        value: a whole number, or text such as "8.2 GFLOPs", "4.1 GMACs" (2 FLOPs each), "1.7G", "25.6M", "8B"
            (billions, of a count only), "25_600_000", "96 MiB" (2^20 bytes each), "96 MB" (10^6) or "3 ms".
        metric: what it is an amount of. Times are whole nanoseconds, and written with their unit.

    Raises:
        ValueError: it is none, or one of something else. The message does not say where ``value`` stands.
    """
    return math.floor(_parse(value, metric))


def parse_ratio(value: object, metric: Metric) -> Fraction:
    """The ratio that ``value`` means, exactly: 10, 0.5, "10 FLOPs/byte", "1.2k FLOPs/step", "4 MACs/B" (2 FLOPs each).

    Args:
        value: a number, or text.
        metric: what it is a ratio of: one whose unit is "FLOPs/byte" or "FLOPs/step".

    Raises:
        ValueError: it is none, or one of something else. The message does not say where ``value`` stands.
    """
    return _parse(value, metric)


def is_ratio(metric: Metric) -> bool:
    """Whether values of ``metric`` are fractions, and not whole numbers."""
    return metric.unit in _OVER


def _parse(value: object, metric: Metric) -> Fraction:
    if isinstance(value, str):
        return _parse_text(value, metric)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(_no_amount(value, metric))
    # By its digits: 0.1 is a tenth where somebody wrote it, and not the float next to it.
    return _plain(Fraction(repr(value)) if isinstance(value, float) else Fraction(value), value, metric)


def parse_percent(value: object) -> Fraction:
    """The share that text such as "1%" or "0.5 %" means: 1/100, 1/200.

    Raises:
        ValueError: not a percentage of zero or more. The message does not say where ``value`` stands.
    """
    read = read_number(value) if isinstance(value, str) else None
    if read is None or read.unit != "%" or "," in read.digits or read.number < 0:
        raise ValueError(f'{shown(value)} is not a percentage of zero or more; write it like "1%"')
    return read.number / 100


def parse_tolerance(value: object, metric: Metric) -> Tolerance:
    """The growth of ``metric`` that ``value`` allows.

    Args:
        value: a share of the baseline's value ("1%"), an amount as ``parse_quantity`` reads it ("5 MFLOPs"), or both in
            a table: ``{relative = "1%", absolute = "5 MFLOPs"}``.
        metric: what may grow.

    Raises:
        ValueError: none of these. The message does not say where ``value`` stands.
    """
    if isinstance(value, Mapping):
        return _parse_allowances(value, metric)
    if isinstance(value, str) and value.rstrip().endswith("%"):
        return Tolerance(relative=parse_percent(value))
    try:
        return Tolerance(absolute=parse_quantity(value, metric))
    except ValueError as error:
        raise ValueError(f'{error}, or a share like "1%"') from None


def format_value(value: int | Fraction, metric: Metric) -> str:
    """``value`` in at most four significant digits: "8.178 GFLOPs", "25.56 M", "97.49 MiB", "3.214 ms", "512".

    Zeros at the end say that the value was rounded to them; an exact short form has none: "8.2 GFLOPs".
    """
    return _format_digits(value, metric, _SIGNIFICANT_DIGITS)


def format_exact(value: int | Fraction, metric: Metric) -> str:
    """``value`` to the last digit: "8,178,368,512 FLOPs"; "25/3 FLOPs/byte", as no decimal number is exact there."""
    number = Fraction(value)
    text = f"{number.numerator:,}" if number.denominator == 1 else f"{number.numerator:,}/{number.denominator:,}"
    return f"{text} {_notation(metric).unit}".rstrip()


def format_pair(a: int | Fraction, b: int | Fraction, metric: Metric) -> tuple[str, str]:
    """Two values to be read side by side: short, or exact where the short forms would hide that they differ.

    Of ratios, exact is as many digits as it takes.
    """
    pair = format_value(a, metric), format_value(b, metric)
    digits = _SIGNIFICANT_DIGITS
    # "8.200 GFLOPs" says that it was rounded, "8.2 GFLOPs" that it was not; a reader sees the same number twice.
    while a != b and _without_zeros(pair[0]) == _without_zeros(pair[1]):
        if not is_ratio(metric):
            return format_exact(a, metric), format_exact(b, metric)
        digits += 1
        pair = _format_digits(a, metric, digits), _format_digits(b, metric, digits)
    return pair


def _format_digits(value: int | Fraction, metric: Metric, digits: int) -> str:
    notation = _notation(metric)
    scaled = Fraction(value)
    rounded = _rounded(scaled, digits)
    for prefix in notation.prefixes:
        if rounded < notation.base or prefix == notation.prefixes[-1]:
            return f"{_digits(rounded, digits, exact=rounded == scaled)} {prefix}{notation.word}".rstrip()
        scaled /= notation.base
        # What rounding lifted to this prefix is one of it: 1023.6 KiB are 1.000 MiB, not 0.9996.
        rounded = max(Fraction(1), _rounded(scaled, digits))
    raise AssertionError("the last prefix returns")


def _without_zeros(short: str) -> str:
    return re.sub(r"\.?0+(?= |$)", "", short) if "." in short else short


def format_delta(delta: int | Fraction, metric: Metric) -> str:
    """A change and its sign, in at most four significant digits: "+411.2 MFLOPs", "-3 M"; zero has no sign."""
    sign = "+" if delta > 0 else "-" if delta < 0 else ""
    return sign + format_value(-delta if delta < 0 else delta, metric)


def format_percent(old: int | Fraction, new: int | Fraction) -> str:
    """The change from ``old`` to ``new``: "+5.0%", "-0.02%", "<0.01%" or ">-0.01%", "0%"; "new" where ``old`` is 0."""
    if old == new:
        return "0%"
    if old == 0:
        return "new"
    percent = Fraction(100 * (new - old), old)
    if abs(percent) > _LARGEST_PERCENT:
        return f"{'+' if percent > 0 else '-'}{abs(round(percent))}%"
    if abs(percent) >= Fraction(1, 10):
        return f"{float(percent):+.1f}%"
    if abs(percent) >= Fraction(1, 100):
        return f"{float(percent):+.2f}%"
    return "<0.01%" if percent > 0 else ">-0.01%"


def nearest_spelling(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed spelling that ``word`` most likely stands for, if any is near; case and dashes count least."""
    spellings = list(allowed)
    alike = [spelling for spelling in spellings if _folded(spelling) == _folded(word)]
    return next(iter(alike or difflib.get_close_matches(word, spellings, n=1, cutoff=0.5)), None)


def _folded(word: str) -> str:
    return word.casefold().replace("-", "_")


def shown(value: object) -> str:
    """``value`` as messages show it: as Python writes it, and not at any length."""
    text = repr(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def _no_amount(value: object, metric: Metric) -> str:
    return f"{shown(value)} is not an amount; write {_EXAMPLES[metric.unit]}"


def _parse_allowances(table: Mapping[object, object], metric: Metric) -> Tolerance:
    unknown = [key for key in table if key not in {"relative", "absolute"}]
    if unknown or not table:
        wrong = f"unknown key {shown(unknown[0])}" if unknown else "an empty table"
        raise ValueError(f'{wrong}; write relative = "1%", absolute = {_EXAMPLES[metric.unit]}, or both')
    return Tolerance(
        relative=parse_percent(table["relative"]) if "relative" in table else Fraction(0),
        absolute=parse_quantity(table["absolute"], metric) if "absolute" in table else 0,
    )


def _parse_text(text: str, metric: Metric) -> Fraction:
    read = read_number(text)
    if read is None:
        raise ValueError(_no_amount(text, metric))
    if read.number < 0 or not read.unit:
        return _plain(read.number, text, metric)
    factor = _factors(metric).get(read.unit)
    if factor is None:
        raise ValueError(f"{shown(text)}{_unit_mistake(read, metric)}")
    refuse_decimal_comma(text, read, factor)
    return read.number * factor


class Written(NamedTuple):
    """A number and its unit, as they stand in a text."""

    number: Fraction
    #: As it was written, without its sign: "8,178" or "8.2".
    digits: str
    #: Without spaces.
    unit: str


def read_number(text: str) -> Written | None:
    """The number and the unit that ``text`` consists of; None if it is something else."""
    match = re.fullmatch(_NUMBER, text.strip()) if len(text) <= _LONGEST_TEXT else None
    if match is None:
        return None
    number = Fraction(match["digits"].replace(",", "").replace("_", "") + match["rest"])
    unit = "".join(match["unit"].split())
    return Written(-number if match["sign"] == "-" else number, match["digits"] + match["rest"], unit)


def refuse_decimal_comma(text: str, read: Written, factor: Fraction | int) -> None:
    """Half of the world writes a decimal comma: 8,178 GFLOPs may be a thousand times less than it seems.

    Raises:
        ValueError: ``read`` has a comma that may be one. The message does not say where ``text`` stands.
    """
    if "," in read.digits and factor >= DECIMAL_FACTORS["k"]:
        plain, decimal = (read.digits.replace(",", point) for point in ("", "."))
        raise ValueError(
            f'{shown(text)}: does the comma group digits? Write "{plain} {read.unit}" or "{decimal} {read.unit}"'
        )


def _plain(number: Fraction, value: object, metric: Metric) -> Fraction:
    """``number``, refused where it cannot be an amount by itself."""
    if number < 0:
        raise ValueError(f"{shown(value)} is negative; write zero or more, like {_EXAMPLES[metric.unit]}")
    if metric.unit == "ns" and number != 0:
        raise ValueError(f"{shown(value)} has no unit of time; write {_EXAMPLES[metric.unit]}")
    if number.denominator != 1 and not is_ratio(metric):
        raise ValueError(f"{shown(value)} has no unit and is not whole; write {_EXAMPLES[metric.unit]}")
    return number


@functools.cache
def _factors(metric: Metric) -> Mapping[str, Fraction | int]:
    """Every unit in which amounts of ``metric`` may be written → how much of the metric's own unit it is."""
    if metric.unit == "bytes":
        factors = DECIMAL_FACTORS | BINARY_FACTORS
        return {**{f"{prefix}B": factor for prefix, factor in factors.items()}, "byte": 1, "bytes": 1}
    if metric.unit == "ns":
        return _TIMES
    factors = DECIMAL_FACTORS
    words = _WORDS.get(metric.unit)
    if is_ratio(metric):
        work = _WORDS["FLOPs"].items()
        words = {f"{word}/{over}": size for word, size in work if word for over in _OVER[metric.unit]} | {"": 1}
    elif words is None:
        noun = metric.key.rpartition("_")[2]
        nouns = ("", noun, "parameters") if noun == "params" else ("", noun)
        words = dict.fromkeys(nouns, 1)
        factors = {**DECIMAL_FACTORS, "B": 10**9}
    return {f"{prefix}{word}": factor * size for word, size in words.items() for prefix, factor in factors.items()}


def _unit_mistake(read: Written, metric: Metric) -> str:
    """What follows the name of a value whose unit cannot be read."""
    amount, unit = read.digits.replace(",", ""), read.unit
    rate = re.fullmatch(_RATE, unit)
    if rate and metric.unit in _WORDS:
        word = "MACs" if (rate["word"] or "").lower().startswith("mac") else "FLOPs"
        remedy = f'write "{amount} {rate["prefix"].upper()}{word}"'
        return f": {unit} is a rate, {word} per second, and a budget is an amount of work: {remedy}"
    if metric.unit == "bytes" and unit in DECIMAL_FACTORS:
        binary = unit.upper()
        return f' may be powers of 1000 or of 1024; write "{amount} {unit}B" or "{amount} {binary}iB"'
    if metric.unit == "ns" and unit in DECIMAL_FACTORS:
        return f" has no unit of time; write {_EXAMPLES[metric.unit]}"
    other = next((other for other in METRICS.values() if unit in _factors(other)), None)
    if other is not None:
        kind = {"count": "a count", "ns": "a time"}.get(other.unit, f"in {other.unit}")
        return f" is {kind}, which does not fit {metric.key}; write {_EXAMPLES[metric.unit]}"
    near = nearest_spelling(unit, _factors(metric))
    hint = f'; did you mean "{amount} {near}"?' if near else f"; write {_EXAMPLES[metric.unit]}."
    return f": unknown unit {shown(unit)}{hint} Allowed: {_ALLOWED[metric.unit]}"


class _Notation(NamedTuple):
    """How values are printed."""

    prefixes: tuple[str, ...]
    #: What each prefix multiplies the one before by.
    base: int
    #: What follows the prefix.
    word: str
    #: What follows a value that has no prefix.
    unit: str


def _notation(metric: Metric) -> _Notation:
    if metric.unit == "bytes":
        return _Notation(_BINARY, 1024, "B", "B")
    if metric.unit == "ns":
        return _Notation(("n", "u", "m", ""), 1000, "s", "ns")
    word = "" if metric.unit == "count" else metric.unit
    return _Notation(_DECIMAL, 1000, word, word)


def _decimals(number: Fraction, digits: int) -> int:
    """How many decimals show so many significant digits of ``number``."""
    if 0 < number < 1:
        # Zeros in front are not significant: 0.08333 FLOPs a byte.
        return digits + len(str(math.ceil(1 / number) - 1)) - 1
    return max(0, digits - len(str(math.floor(number))))


def _rounded(number: Fraction, digits: int) -> Fraction:
    return round(number, _decimals(number, digits))


def _digits(number: Fraction, digits: int, *, exact: bool) -> str:
    """``number``, which is rounded already, without the zeros that say nothing."""
    decimals = _decimals(number, digits)
    if number.denominator == 1 and (exact or decimals == 0):
        return str(math.floor(number))
    # By whole numbers: what a damaged file holds may be larger than any float.
    whole, rest = divmod(round(number * 10**decimals), 10**decimals)
    text = f"{whole}.{rest:0{decimals}d}" if decimals else str(whole)
    return text.rstrip("0") if exact else text
