"""docs/architecture.md lists every file of the package in the right folder, and no other file."""

from __future__ import annotations

import re

import pytest
from paths import ROOT

PACKAGE = ROOT / "pytest_flopsbudget"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

#: The part of the page that lists folders and files. Each line begins with a name and says what it is for.
TREE = PAGE.partition("## Folders")[2].partition("\n## ")[0].partition("A new operator")[0]


def folders():
    """Return {folder of the package: names of its files}. Empty files are left out."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if path.read_text(encoding="utf-8").strip() and (path.name != "__init__.py" or path.parent == PACKAGE):
            found.setdefault(path.parent.relative_to(PACKAGE).as_posix(), set()).add(path.name)
    return found


def named():
    """Return {folder: names of the files that docs/architecture.md lists for it}."""
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
    files = folders()[folder]
    page = named()[folder] - {"conftest.py"}  # the page also shows a user's project, which has a conftest.py
    assert page - files == set()
    assert folder == "counting/costs" or files - page == set()
