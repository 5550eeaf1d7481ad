"""The options for sizes in braces, which `law` and `audit` share: ``--S 128:8192`` for ``{S}``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.parsing import nearest_spelling
from pytest_flopsbudget.targets.sizes import MOST_SYMBOLS, parse_range, symbols_in

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

#: Names of parameters of `law`, which no size may have.
_RESERVED = ("model", "make_inputs", "backward", "on_data", "devices", "metrics", "most_counts")
_SIZE_OPTION = re.compile(r"--([^\W\d]\w*)(?:=(.*))?", re.DOTALL)


def add_size_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Add an option for each size that a word of ``argv`` has in braces.

    An option that looks like that of a size is added too, so that a message can say that the inputs do not have it.

    Raises:
        UsageError: a size has the name of an option.
    """
    known = parser._option_string_actions  # noqa: SLF001 -- argparse has no public way to list them
    names = symbols_in(argv)
    for name in names:
        if f"--{name}" in known or name in _RESERVED:
            raise UsageError(f"{{{name}}}: this name is an option of the command; choose another name for the size")
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        found = _SIZE_OPTION.fullmatch(word)
        value = following if found is None or found[2] is None else found[2]
        if found is not None and f"--{found[1]}" not in known and re.match(r"\d*:\d*", value):
            names.append(found[1])
    for name in dict.fromkeys(names):
        parser.add_argument(f"--{name}", metavar="LOW:HIGH[:STEP]", dest=f"size {name}", help="both ends are included")


def ranges_of(arguments: argparse.Namespace, symbols: Sequence[str]) -> dict[str, range]:
    """Return size → its range, from the options that `add_size_options` added.

    Raises:
        UsageError: no size is in braces, there are too many, or a size has no range.
    """
    given = {
        name.removeprefix("size "): value
        for name, value in vars(arguments).items()
        if name.startswith("size ") and value is not None
    }
    if not symbols:
        name = next(iter(given), "S")
        raise UsageError(
            f"no size is a name in braces; write {{{name}}} in place of a size, as in --input '1x{{{name}}}x512' "
            f"--{name} {given.get(name, '128:8192')}"
        )
    if len(symbols) > MOST_SYMBOLS:
        raise UsageError(f"one to three sizes are possible, not {len(symbols)}: {', '.join(symbols)}")
    for name, value in given.items():
        if name not in symbols:
            near = nearest_spelling(name, symbols)
            hint = f"did you mean --{near}?" if near else f"there are {', '.join(f'{{{one}}}' for one in symbols)}"
            raise UsageError(f"--{name} {value}: the target and its inputs have no {{{name}}}; {hint}")
    missing = next((symbol for symbol in symbols if symbol not in given), None)
    if missing is not None:
        raise UsageError(f"no sizes for {{{missing}}}; write --{missing} 1:64")
    return {symbol: parse_range(symbol, given[symbol]) for symbol in symbols}
