"""docs/architecture.md names every file of the package, each in its folder, and none that is gone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pytest_flopsbudget"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

#: Folder → what the page says of it; "" is the package itself.
ROOMS = {
    found[1] or "": found[2]
    for found in re.finditer(
        r"^ {4}(?: {4}(\w+)/|pytest_flopsbudget/)(.*?)(?=^ {8}\w+/|^\S)", PAGE, re.MULTILINE | re.DOTALL
    )
}


def test_every_folder_has_its_room():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == ROOMS.keys() - {""}


@pytest.mark.parametrize("room", ROOMS)
def test_every_file_is_named(room):
    """But for the `__init__.py` of folders, which are empty; costs/ has one file for each family of operators."""
    files = {path.name for path in (PACKAGE / room).glob("*.py")} - ({"__init__.py"} if room else set())
    named = set(re.findall(r"\b\w+\.py\b", ROOMS[room])) - {"conftest.py"}  # a project's
    families = {path.name for path in (PACKAGE / room / "costs").glob("*.py")}
    assert files == named - (families - files)
