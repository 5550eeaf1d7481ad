"""Parse speeds as data sheets write them, "312 TFLOP/s" or "1555 GB/s", into whole numbers per second."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pytest_flopsbudget.quantities.parsing import (
    nearest_spelling,
    quote_value,
    read_number,
    refuse_decimal_comma,
)
from pytest_flopsbudget.quantities.units import BINARY_FACTORS, DECIMAL_FACTORS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.quantities.parsing import ParsedNumber


Speed = Literal["FLOP/s", "B/s"]

#: Unit → number of FLOPs, or of operations on integers. A multiply-accumulate is two FLOPs.
_WORK: Mapping[str, int] = {
    "FLOP/s": 1,
    "FLOPs/s": 1,
    "FLOPS": 1,
    "OP/s": 1,
    "OPs/s": 1,
    "OPS": 1,
    "MAC/s": 2,
    "MACs/s": 2,
    "": 1,
}
_FACTORS: Mapping[Speed, Mapping[str, int]] = {
    # A prefix alone is enough, as in "19.5T". A number without a prefix is not enough.
    "FLOP/s": {
        f"{prefix}{word}": factor * size
        for word, size in _WORK.items()
        for prefix, factor in DECIMAL_FACTORS.items()
        if prefix or word
    },
    "B/s": {f"{prefix}B/s": factor for prefix, factor in (DECIMAL_FACTORS | BINARY_FACTORS).items()},
}
_EXAMPLES: Mapping[Speed, str] = {"FLOP/s": '"19.5 TFLOP/s" or "26 TOPS"', "B/s": '"1555 GB/s" or "1.5 TiB/s"'}
_ALLOWED: Mapping[Speed, str] = {
    "FLOP/s": "FLOP/s, FLOPS, OPS or MAC/s, after k, M, G, T, P, E or none",
    "B/s": "B/s, kB/s, MB/s, GB/s ... (powers of 1000), KiB/s, MiB/s, GiB/s ... (powers of 1024)",
}


def parse_rate(value: object, speed: Speed) -> int:
    """Parse a speed into a whole number of FLOPs, integer operations or bytes per second.

    The result is rounded up, so that a time computed from it remains a lower bound.

    Args:
        value: text: "312 TFLOP/s", "312 TFLOPS", "19.5T", "26 TOPS", "13 TMAC/s" (2 FLOPs each); "1555 GB/s", "1.5
            TiB/s".
        speed: the unit of the result, "FLOP/s" or "B/s".

    Raises:
        ValueError: the value is no speed, or has another unit. The message does not say where ``value`` was written.
    """
    read = read_number(value) if isinstance(value, str) else None
    if not isinstance(value, str) or read is None:
        raise ValueError(f"{quote_value(value)} is not a speed; write {_EXAMPLES[speed]}")
    factor = _FACTORS[speed].get(read.unit)
    if factor is None:
        raise ValueError(f"{quote_value(value)}{_unit_problem(read, speed)}")
    if read.number <= 0:
        raise ValueError(f"{quote_value(value)} is no speed above zero; write {_EXAMPLES[speed]}")
    refuse_decimal_comma(value, read, factor)
    return math.ceil(read.number * factor)


def _unit_problem(read: ParsedNumber, speed: Speed) -> str:
    """Return the end of the message about a value whose unit is not allowed."""
    other: Speed = "B/s" if speed == "FLOP/s" else "FLOP/s"
    if not read.unit:
        return f" has no unit; write {_EXAMPLES[speed]}"
    if read.unit in _FACTORS[other] and read.unit not in DECIMAL_FACTORS:
        return f" is a speed in {other}, and not in {speed}; write {_EXAMPLES[speed]}"
    near = nearest_spelling(read.unit, _FACTORS[speed])
    hint = f'; did you mean "{read.digits} {near}"?' if near else f"; write {_EXAMPLES[speed]}."
    return f": unknown unit {quote_value(read.unit)}{hint} Allowed: {_ALLOWED[speed]}"
