"""docs/troubleshooting.md: each heading is a part of a message that the code has."""

from __future__ import annotations

import ast
import functools
import re

import pytest
from paths import DOCS, ROOT

HEADINGS = re.findall(r"^### `(.*)`$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)


@functools.cache
def texts():
    """Return the texts in the package's code. In an f-string, each value is a null character."""
    found = []
    for path in (ROOT / "pytest_flopsbudget").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_ten_messages_or_more():
    assert len(HEADINGS) == len(set(HEADINGS)) >= 10


@pytest.mark.parametrize("heading", HEADINGS)
def test_the_code_has_this_message(heading):
    assert heading in texts()
