"""Check the names of tests that pages of the documentation mention."""

from __future__ import annotations

import ast
import re
from functools import cache

from paths import TESTS


@cache
def nodeids(file):
    """Return the node ids of all tests in a file, without parameters."""
    found = set()
    for node in ast.parse(TESTS.joinpath(file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(f"{file}::{node.name}")
        elif isinstance(node, ast.ClassDef):
            found |= {f"{file}::{node.name}::{own.name}" for own in node.body if isinstance(own, ast.FunctionDef)}
    return found


def check_named(cell):
    """Check that a cell of a table names at least one test, and that all named tests exist."""
    named = re.findall(r"`([^`]+)`", cell)
    assert named
    for nodeid in named:
        file, _, name = nodeid.partition("::")
        assert nodeid in nodeids(file), f"{file} has no test {name}"
        assert name.rpartition("::")[2].startswith("test_")
