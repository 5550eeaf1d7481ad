"""Look whether a pyproject may have a table for this plugin, without parsing it.

Every run of pytest asks, so this file imports the standard library alone. Parsing TOML would take longer than
everything else that a run without measurements pays.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE = "pyproject.toml"
TABLE = "pytest-flopsbudget"

#: The head of a table, or a key, that contains this plugin's name. A requirement, by which a project asks for the
#: plugin to be installed, is a string, and matches neither.
_TABLE_OR_KEY = re.compile(
    rb"""(?im)^[ \t]*(?:\[[^\n]*flop|[\w.\-"' ]*flop[\w.\-"' ]*=(?!=))"""
    rb"""|^[^"'#\n]*flop"""  # a line that is no valid TOML, or the first line behind a byte order mark
    rb"""|[{,][ \t]*["']?[\w.\-]*flop[\w.\-]*["']?[ \t]*=(?!=)"""  # in a table that is written inline
)


def may_have_table(path: Path) -> bool:
    """Return whether the file may have a table for this plugin; False where it cannot be read."""
    try:
        return names_table(path.read_bytes())
    except OSError:
        return False


def names_table(data: bytes) -> bool:
    """Return whether the bytes of a pyproject may contain a table for this plugin, spelled right or nearly so."""
    return _TABLE_OR_KEY.search(data) is not None
