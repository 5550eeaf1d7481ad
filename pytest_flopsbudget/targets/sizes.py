"""Sizes that are symbols: ``1x{S}x512`` in an input or in a target, with a range for each symbol."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.parsing import nearest_spelling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SYMBOL = re.compile(r"\{([^\W\d]\w*)\}")
_RANGE = re.compile(r"(\d{1,12}):(\d{1,12})(?::(\d{1,12}))?")
_SIZE = re.compile(r"([^\W\d]\w*)=(\d{1,12})")
#: A law of degree 1 needs two sizes, and a third one that checks it.
_FEWEST = 3
MOST_SYMBOLS = 3


def symbols_in(texts: Iterable[str]) -> list[str]:
    """Return the symbols in braces, in the order of their first use."""
    return list(dict.fromkeys(name for text in texts for name in _SYMBOL.findall(text)))


def with_sizes(text: str, sizes: Mapping[str, int]) -> str:
    """Return ``text`` with a size in place of each symbol."""
    return _SYMBOL.sub(lambda found: str(sizes.get(found[1], found[0])), text)


def parse_range(symbol: str, text: str) -> range:
    """Parse ``LOW:HIGH`` or ``LOW:HIGH:STEP``. Both ends are included.

    Raises:
        UsageError: the text has another form, or the range has fewer than three sizes.
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"--{symbol} {text!r} is no range of sizes; write --{symbol} 128:8192, or --{symbol} 64:1024:32 for every "
            "32nd size; both ends are included"
        )
    low, high, step = int(found[1]), int(found[2]), int(found[3] or 1)
    if step < 1:
        raise UsageError(f"--{symbol} {text!r}: the step is 0; write --{symbol} {low}:{high}")
    if low > high:
        raise UsageError(f"--{symbol} {text!r}: the first size is larger than the last; write --{symbol} {high}:{low}")
    sizes = range(low, high + 1, step)
    if len(sizes) < _FEWEST:
        count = "one size" if len(sizes) == 1 else f"{len(sizes)} sizes"
        raise UsageError(
            f"--{symbol} {text!r} has {count}; a law needs at least {_FEWEST}, and a polynomial of degree 4 needs 6"
        )
    return sizes


def parse_sizes(option: str, text: str, symbols: Sequence[str]) -> dict[str, int]:
    """Parse ``S=1024`` or ``B=8,S=1024`` into symbol → size.

    Args:
        option: the option, for messages.
        text: the text.
        symbols: the symbols that there are.

    Raises:
        UsageError: the text has another form, or a symbol is unknown or named twice.
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        found = _SIZE.fullmatch(part.strip())
        if found is None:
            raise UsageError(f"{option} {text!r}: {part.strip()!r} is no size; write {option} {symbols[0]}=1024")
        name = known_symbol(option, found[1], symbols)
        if name in sizes:
            raise UsageError(f"{option} {text!r}: {name} has two sizes")
        sizes[name] = int(found[2])
    return sizes


def known_symbol(option: str, name: str, symbols: Sequence[str]) -> str:
    """Return ``name``.

    Raises:
        UsageError: ``name`` is not among the symbols.
    """
    if name in symbols:
        return name
    near = nearest_spelling(name, symbols)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(symbols)}"
    raise UsageError(f"{option}: no size is called {name!r}; {hint}")


def widened(symbol: str, sizes: range, size: int) -> range:
    """Return the range, extended so that it includes ``size``.

    Raises:
        UsageError: ``size`` is between two sizes of the range, or not a whole number of steps from them.
    """
    low, high = min(size, sizes[0]), max(size, sizes[-1])
    if (size - sizes[0]) % sizes.step:
        below = sizes[0] + (size - sizes[0]) // sizes.step * sizes.step
        raise UsageError(
            f"{symbol}={size}: the range has a step of {sizes.step}, so the nearest sizes are {max(below, 0)} and "
            f"{below + sizes.step}"
        )
    return range(low, high + 1, sizes.step)
