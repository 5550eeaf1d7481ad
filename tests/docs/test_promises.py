"""docs/promises.md names only tests that exist."""

from __future__ import annotations

import pytest
from named_tests import check_named
from paths import TESTS

PAGE = TESTS.parent / "docs" / "promises.md"

ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "what happens with other tools" not in line
]


def test_every_lesson_has_a_row():
    """The table in docs/promises.md has no empty cell."""
    assert len(ROWS) == 12 + 7 + 10
    assert all(len(row) == 4 and all(row) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_names_tests_that_exist(row):
    check_named(row[3])
