"""Find and parse the table `[tool.pytest-flopsbudget]` of a pyproject."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_flopsbudget.config.prescan import FILE, TABLE, names_table
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.parsing import quote_value

if TYPE_CHECKING:
    from pathlib import Path


#: The maximum number of digits of an integer that Python reads.
_MAX_DIGITS = 4_300


def read_document(path: Path, file: str = FILE) -> Mapping[str, object]:
    """Parse the file. Return an empty document if the file is missing or has no table for this plugin.

    Args:
        path: the pyproject.
        file: the name of the pyproject in messages.

    Raises:
        UsageError: the file cannot be read, or is not valid TOML.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from error
    if not names_table(data):
        # A file without a table for this plugin is not parsed. This saves time, and its mistakes are not for this
        # plugin to report.
        return {}
    try:
        return _parse_toml(data.decode())
    except ValueError as error:
        line = _line_of_long_integer(data)
        if line:
            raise UsageError(
                f"{file}, line {line}: an integer of more than {_MAX_DIGITS:,} digits; the largest amount is just "
                "below 10^100"
            ) from error
        raise UsageError(f"{file}: is not valid TOML: {error}; correct it and run again") from error


def _line_of_long_integer(data: bytes) -> int:
    """Return the line of the first integer with more digits than Python reads; 0 if there is none."""
    found = re.search(rb"=\s*[+-]?[0-9](?:_?[0-9]){%d}" % _MAX_DIGITS, data)
    return data.count(b"\n", 0, found.end()) + 1 if found else 0


def _parse_toml(text: str) -> Mapping[str, object]:
    # Imported here because most runs of pytest parse nothing, and importing takes longer than parsing.
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415
    else:
        import tomli as tomllib  # noqa: PLC0415
    return tomllib.loads(text)


def find_table(document: Mapping[str, object], messages: list[str], file: str = FILE) -> Mapping[str, object] | None:
    """Return the table of this plugin; None if there is none. Add a message for each table with a misspelled name."""
    found = document.get("tool")
    tools = found if isinstance(found, Mapping) else {}
    misspelled = [name for name in document if _resembles_table(name)]
    misspelled += [f"tool.{name}" for name in tools if name != TABLE and _resembles_table(name)]
    messages += (f"{file}: [{name}]: nothing reads this table; rename it to [tool.{TABLE}]" for name in misspelled)
    table = tools.get(TABLE)
    if table is None or isinstance(table, Mapping):
        return table
    messages.append(f"{file}: tool.{TABLE}: must be a table, not {quote_value(table)}; write [tool.{TABLE}]")
    return None


def _resembles_table(name: str) -> bool:
    """Return whether a table with this name is most likely a table of this plugin with a misspelled name."""
    letters = re.sub("[^a-z]", "", name.lower())
    return bool(difflib.get_close_matches(letters, ["pytestflopsbudget", "flopsbudget"], n=1, cutoff=0.9))
