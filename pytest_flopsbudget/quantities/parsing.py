"""Parse quantities as people write them, "8.2 GFLOPs", "25.6M", "96 MiB" or "1%", into exact numbers."""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, cast

from pytest_flopsbudget.quantities.metrics import METRICS
from pytest_flopsbudget.quantities.tolerance import Tolerance
from pytest_flopsbudget.quantities.units import BINARY_FACTORS, DECIMAL_FACTORS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_flopsbudget.quantities.metrics import Metric, Unit


_WORDS: Mapping[Unit, Mapping[str, Fraction | int]] = {
    "FLOPs": {"": 1, "FLOP": 1, "FLOPs": 1, "MAC": 2, "MACs": 2},
    "MACs": {"": 1, "MAC": 1, "MACs": 1, "FLOP": Fraction(1, 2), "FLOPs": Fraction(1, 2)},
    "tokens/s": {"": 1, "token/s": 1, "tokens/s": 1},
}
#: Unit of a ratio → the words for its denominator.
_OVER: Mapping[Unit, tuple[str, ...]] = {
    "FLOPs/byte": ("byte", "B"),
    "FLOPs/step": ("step",),
    "bits/param": ("param",),
}
_TIMES: Mapping[str, int] = {
    "ns": 1,
    "us": 10**3,
    "\N{MICRO SIGN}s": 10**3,
    "\N{GREEK SMALL LETTER MU}s": 10**3,
    "ms": 10**6,
    "s": 10**9,
}

# The patterns are compiled at first use, because most runs of pytest parse no quantity.
_NUMBER = (
    r"(?P<sign>[+-]?)"
    r"(?P<digits>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+(?:_[0-9]+)*)"
    r"(?P<rest>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2}(?![0-9]))?)"
    r"\s*(?P<unit>(?![0-9.,_+-]).*)"
)
_RATE = r"(?P<prefix>(?i:[kMGTPE]?))(?:(?:FL)?OPS|(?P<word>(?i:flops?|macs?))(?:/|per)s(?:ec(?:ond)?)?)"
#: The maximum length of a quantity. It is so short that Python's limit on the digits of an integer is never reached.
_LONGEST_TEXT = 100
#: The smallest amount that is refused. Reports hold amounts of up to 100 digits; floats hold numbers of up to 308
#: digits.
TOO_LARGE = 10**100

#: A word that people write for a key → the keys that they probably mean.
_MEANINGS: Mapping[str, tuple[str, ...]] = {
    "parameters": ("params",),
    "num_parameters": ("params",),
    "num_params": ("params",),
    "weights": ("params", "param_bytes"),
    "size": ("param_bytes",),
    "bytes": ("param_bytes", "memory_traffic"),
    "memory": ("peak_memory", "param_bytes"),
    "memory_usage": ("peak_memory",),
    "vram": ("peak_memory",),
    "ram": ("peak_memory",),
    "bandwidth": ("memory_traffic",),
    "cache": ("kv_cache",),
    "kv": ("kv_cache",),
    "ttft": ("time_to_first_token",),
    "throughput": ("tokens_per_second",),
    "tps": ("tokens_per_second",),
    "concurrency": ("requests",),
    "traffic": ("memory_traffic",),
    "gflops": ("flops",),
    "mflops": ("flops",),
    "gmacs": ("macs",),
    "multiply_adds": ("macs",),
    "kernels": ("launches",),
    "ops": ("launches", "operators"),
    "runtime": ("latency", "time"),
    "duration": ("latency", "time"),
    "speed": ("latency",),
    "layers": ("modules", "depth"),
    "threshold": ("limits", "tolerance"),
    "thresholds": ("limits", "budgets"),
    "max": ("limits",),
    "tests": ("match",),
    "pattern": ("match",),
    "patterns": ("match",),
    "metrics": ("hold", "show"),
    "margin": ("tolerance",),
    "allowed_growth": ("tolerance",),
    "device": ("time-on", "devices"),
    "sum": ("total",),
}

_EXAMPLES: Mapping[Unit, str] = {
    "FLOPs": '"8.2 GFLOPs" or "4.1 GMACs"',
    "MACs": '"4.1 GMACs" or "8.2 GFLOPs"',
    "count": '"25.6M" or 25_600_000',
    "bytes": '"96 MiB" or "100 MB"',
    "ns": '"3 ms" or "400 us"',
    "FLOPs/byte": '"10 FLOPs/byte" or 0.5',
    "FLOPs/step": '"1.2k FLOPs/step" or 1200',
    "bits/param": '"4.5 bits/param" or 4.5',
    "tokens/s": '"1.2k tokens/s" or 1200',
}
_ALLOWED: Mapping[Unit, str] = {
    "FLOPs": "FLOPs or MACs, after k, M, G, T, P, E or none",
    "MACs": "MACs or FLOPs, after k, M, G, T, P, E or none",
    "count": "k, M, G, T, P, E, B (billions) or none",
    "bytes": "B, kB, MB, GB ... (powers of 1000), KiB, MiB, GiB ... (powers of 1024)",
    "ns": "s, ms, us, ns",
    "FLOPs/byte": "FLOPs/byte or MACs/byte, after k, M, G, T, P, E or none",
    "FLOPs/step": "FLOPs/step or MACs/step, after k, M, G, T, P, E or none",
    "bits/param": "bits/param or bits, after k, M, G, T, P, E or none",
    "tokens/s": "tokens/s, after k, M, G, T, P, E or none",
}


def parse_quantity(value: object, metric: Metric) -> int:
    """Parse an amount into a whole number in the unit of ``metric``, rounded down.

    Measured values are whole numbers, so rounding a limit down does not change which values are within the limit.

    Args:
        value: a whole number, or text such as "8.2 GFLOPs", "4.1 GMACs" (2 FLOPs each), "1.7G", "25.6M", "8B"
            (billions, of a count only), "25_600_000", "96 MiB" (2^20 bytes each), "96 MB" (10^6) or "3 ms".
        metric: the metric of the amount. A time is parsed into whole nanoseconds, and must have a unit.

    Raises:
        ValueError: ``value`` is no such quantity. The message does not say where ``value`` was written.
    """
    return math.floor(parse_exactly(value, metric))


def parse_exactly(value: object, metric: Metric) -> Fraction:
    """Parse an amount without rounding: 0.5, "10 FLOPs/byte", "1.2k FLOPs/step", "4 MACs/B" (2 FLOPs each).

    Args:
        value: a number, or text.
        metric: the metric of the amount. The result is in its unit.

    Raises:
        ValueError: ``value`` is no such quantity. The message does not say where ``value`` was written.
    """
    number = _parse_any(value, metric)
    if number >= TOO_LARGE:
        raise ValueError(f"{quote_value(value)} is too large; the largest amount is just below 10^100")
    return number


def example_of(metric: Metric) -> str:
    """Return how an amount of ``metric`` may be written: '"96 MiB" or "100 MB"'."""
    return _EXAMPLES[metric.unit]


def is_ratio(metric: Metric) -> bool:
    """Return whether values of ``metric`` are fractions instead of whole numbers."""
    return metric.unit in _OVER


def _parse_any(value: object, metric: Metric) -> Fraction:
    if isinstance(value, str):
        return _parse_text(value, metric)
    # math.isfinite converts an integer to a float, which fails beyond 10^308.
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole and not (isinstance(value, float) and math.isfinite(value)):
        raise ValueError(_no_amount(value, metric))
    # repr() gives the digits as written: 0.1 is one tenth, not the nearest float.
    return _plain(Fraction(repr(value) if isinstance(value, float) else cast("int", value)), value, metric)


def parse_percent(value: object) -> Fraction:
    """Parse a percentage: "1%" is 1/100, "0.5 %" is 1/200.

    Raises:
        ValueError: ``value`` is not a percentage of zero or more. The message does not say where ``value`` was written.
    """
    read = read_number(value) if isinstance(value, str) else None
    if read is None or read.unit != "%" or "," in read.digits or read.number < 0:
        raise ValueError(f'{quote_value(value)} is not a percentage of zero or more; write it like "1%"')
    return read.number / 100


def parse_tolerance(value: object, metric: Metric) -> Tolerance:
    """Parse a tolerance of ``metric``.

    Args:
        value: a share of the baseline's value ("1%"), an amount as ``parse_quantity`` reads it ("5 MFLOPs"), or both in
            a table: ``{relative = "1%", absolute = "5 MFLOPs"}``. "inf" allows any growth.
        metric: the metric that may grow.

    Raises:
        ValueError: ``value`` is neither a share, an amount nor such a table. The message does not say where ``value``
            was written.
    """
    if isinstance(value, Mapping):
        return _parse_allowances(value, metric)
    if value == "inf" or value == math.inf:  # noqa: PLR1714 -- the value may not be hashable
        return Tolerance(absolute=TOO_LARGE)
    if isinstance(value, str) and value.rstrip().endswith("%"):
        return Tolerance(relative=parse_percent(value))
    try:
        return Tolerance(absolute=parse_quantity(value, metric))
    except ValueError as error:
        raise ValueError(f'{error}, or a share like "1%"') from None


def nearest_spelling(word: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed word that is most similar to ``word``; None if none is similar. Case does not matter."""
    return next(iter(near_words(word, allowed)), None)


def near_words(word: str, allowed: Iterable[str]) -> list[str]:
    """Return up to three allowed words that are spelled like ``word`` or mean the same. The best one is first."""
    spellings = list(allowed)
    folded = _folded(word)
    alike = [spelling for spelling in spellings if _folded(spelling) == folded]
    meant = [spelling for spelling in _MEANINGS.get(folded, ()) if spelling in spellings]
    return alike[:1] or meant or _alike(word, spellings)


def _alike(word: str, spellings: list[str]) -> list[str]:
    """Return up to three words that are spelled like ``word``, all about as close to it as the closest one."""
    near = difflib.get_close_matches(word, spellings, n=3, cutoff=0.5)
    closeness = {spelling: difflib.SequenceMatcher(None, spelling, word).ratio() for spelling in near}
    return [spelling for spelling in near if closeness[spelling] > closeness[near[0]] - 0.1]


def _folded(word: str) -> str:
    return word.casefold().replace("-", "_")


def quote_value(value: object) -> str:
    """Return the repr of ``value`` for a message. A long repr is shortened."""
    try:
        text = repr(value)
    except ValueError:
        # Python refuses to write an integer of more than 4,300 digits in decimal.
        text = (
            hex(value) if isinstance(value, int) else f"a {type(value).__name__} with a number of thousands of digits"
        )
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def _no_amount(value: object, metric: Metric) -> str:
    return f"{quote_value(value)} is not an amount; write {_EXAMPLES[metric.unit]}"


def _parse_allowances(table: Mapping[object, object], metric: Metric) -> Tolerance:
    unknown = [key for key in table if key not in {"relative", "absolute"}]
    if unknown or not table:
        wrong = f"unknown key {quote_value(unknown[0])}" if unknown else "an empty table"
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
        raise ValueError(f"{quote_value(text)}{_unit_problem(read, metric)}")
    refuse_decimal_comma(text, read, factor)
    return read.number * factor


class ParsedNumber(NamedTuple):
    """A number and its unit, read from a text."""

    number: Fraction
    #: The digits as written, without the sign: "8,178" or "8.2".
    digits: str
    #: The unit without spaces.
    unit: str


def read_number(text: str) -> ParsedNumber | None:
    """Read a text that consists of a number and a unit; return None for any other text."""
    match = re.fullmatch(_NUMBER, text.strip()) if len(text) <= _LONGEST_TEXT else None
    if match is None:
        return None
    number = Fraction(match["digits"].replace(",", "").replace("_", "") + match["rest"])
    unit = "".join(match["unit"].split())
    return ParsedNumber(-number if match["sign"] == "-" else number, match["digits"] + match["rest"], unit)


def refuse_decimal_comma(text: str, read: ParsedNumber, factor: Fraction | int) -> None:
    """Refuse a comma that may be a decimal comma: "8,178 GFLOPs" could mean 8178 or 8.178.

    Args:
        text: the text, for the message.
        read: the number that was read from the text.
        factor: the value of the unit: 10^9 for "GFLOPs". Commas are allowed if it is less than 1000.

    Raises:
        ValueError: ``read`` has such a comma. The message does not say where ``text`` was written.
    """
    if "," in read.digits and factor >= DECIMAL_FACTORS["k"]:
        plain, decimal = (read.digits.replace(",", point) for point in ("", "."))
        raise ValueError(
            f'{quote_value(text)}: does the comma group digits? Write "{plain} {read.unit}" or "{decimal} {read.unit}"'
        )


def _plain(number: Fraction, value: object, metric: Metric) -> Fraction:
    """Return the value of a number without a unit. Raise ValueError if the number needs a unit or is negative."""
    if number < 0:
        raise ValueError(f"{quote_value(value)} is negative; write zero or more, like {_EXAMPLES[metric.unit]}")
    if metric.unit == "ns" and number != 0:
        raise ValueError(f"{quote_value(value)} has no unit of time; write {_EXAMPLES[metric.unit]}")
    if number.denominator != 1 and not is_ratio(metric):
        raise ValueError(f"{quote_value(value)} has no unit and is not whole; write {_EXAMPLES[metric.unit]}")
    return number


@functools.cache
def _factors(metric: Metric) -> Mapping[str, Fraction | int]:
    """Return unit → factor to the metric's unit, for each unit in which ``metric`` may be written."""
    if metric.unit == "bytes":
        factors = DECIMAL_FACTORS | BINARY_FACTORS
        return {**{f"{prefix}B": factor for prefix, factor in factors.items()}, "byte": 1, "bytes": 1}
    if metric.unit == "ns":
        return _TIMES
    factors = DECIMAL_FACTORS
    words = _WORDS.get(metric.unit)
    if metric.unit == "bits/param":
        words = dict.fromkeys(("", "bit", "bits", "bit/param", "bits/param"), 1)
    elif is_ratio(metric):
        work = _WORDS["FLOPs"].items()
        words = {f"{word}/{over}": size for word, size in work if word for over in _OVER[metric.unit]} | {"": 1}
    elif words is None:
        noun = metric.key.rpartition("_")[2]
        nouns = ("", noun, "parameters") if noun == "params" else ("", noun)
        words = dict.fromkeys(nouns, 1)
        factors = {**DECIMAL_FACTORS, "B": 10**9}
    return {f"{prefix}{word}": factor * size for word, size in words.items() for prefix, factor in factors.items()}


def _unit_problem(read: ParsedNumber, metric: Metric) -> str:
    """Return the end of the message about a value whose unit is not allowed."""
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
    return f": unknown unit {quote_value(unit)}{hint} Allowed: {_ALLOWED[metric.unit]}"
