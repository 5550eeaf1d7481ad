"""docs/architecture.md names every file of the package in its folder, and names no file that does not exist."""

from __future__ import annotations

import re

import pytest
from paths import ROOT

PACKAGE = ROOT / "pytest_flopsbudget"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

#: The part of the page that lists the folders: a line that begins with a folder or a file says what it is for.
TREE = PAGE.partition("## Folders")[2].partition("\n## ")[0].partition("A new operator")[0]


def folders():
    """Return folder of the package → the names of its files, except empty files."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if path.read_text(encoding="utf-8").strip() and (path.name != "__init__.py" or path.parent == PACKAGE):
            found.setdefault(path.parent.relative_to(PACKAGE).as_posix(), set()).add(path.name)
    return found


def named():
    """Return folder → the files that the page lists for it; for costs/, the page need list only one file."""
    found = {".": set()}
    place, inner = ".", "."
    for line in TREE.splitlines():
        indent = len(line) - len(line.lstrip())
        entry = re.match(r"(\w+)/", line.strip())
        if entry and indent in (8, 12):
            inner = entry[1] if indent == 8 else f"{place}/{entry[1]}"
            place = inner if indent == 8 else place
            found.setdefault(inner, set())
        elif line.strip() and indent <= 12:
            inner = place = "." if indent == 8 else place
        found[inner] |= set(re.findall(r"\b\w+\.py\b", line))
    return {folder: names for folder, names in found.items() if names}


@pytest.mark.parametrize("folder", sorted(folders()))
def test_every_file_is_named(folder):
    """Each file is listed under its folder (costs/ only needs one), and every listed file exists."""
    files = folders()[folder]
    page = named()[folder] - {"conftest.py"}  # the page's tree of a user's project has a conftest.py
    assert page - files == set()
    assert folder == "counting/costs" or files - page == set()
