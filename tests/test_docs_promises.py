"""The table of promises names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "promises.md"

ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "what happens elsewhere" not in line
]


@cache
def nodeids(file):
    """The node ids of a file's tests, without parameters."""
    found = set()
    for node in ast.parse(TESTS.joinpath(file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(f"{file}::{node.name}")
        elif isinstance(node, ast.ClassDef):
            found |= {f"{file}::{node.name}::{own.name}" for own in node.body if isinstance(own, ast.FunctionDef)}
    return found


def test_every_lesson_has_a_row():
    """Twelve about baselines, seven about limits, ten about runs; each cell says something."""
    assert len(ROWS) == 12 + 7 + 10
    assert all(len(row) == 4 and all(row) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_names_tests_that_exist(row):
    named = re.findall(r"`([^`]+)`", row[3])
    assert named
    for nodeid in named:
        file, _, name = nodeid.partition("::")
        assert nodeid in nodeids(file), f"{file} has no test {name}"
        assert name.rpartition("::")[2].startswith("test_")
