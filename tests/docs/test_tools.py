"""docs/tools.md names only tests that exist, and its examples pass."""

from __future__ import annotations

import re

import pytest
import torch
import transformers
from named_tests import check_named
from paths import DOCS

from pytest_flopsbudget import FlopsBudget

PAGE = (DOCS / "tools.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| tool |")
]
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_names_tests_that_exist(row):
    assert len(row) == 4
    check_named(row[3])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # raised by transformers
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.partition("(")[0].removeprefix("def "))
def test_examples(example):
    names = {"torch": torch, "transformers": transformers}
    exec(example, names)  # noqa: S102 -- from our documentation
    (test,) = (value for name, value in names.items() if name.startswith("test_"))
    budget = FlopsBudget()
    test(budget)
    assert all(kept.complexity.execution == "shapes" for kept in budget.close())
