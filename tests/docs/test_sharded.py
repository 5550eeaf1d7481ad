"""docs/sharded.md shows a test, and pytest's output for it."""

from __future__ import annotations

import re

from features import requires
from paths import DOCS

PAGE = DOCS / "sharded.md"


def _block(language: str) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[0]


@requires("FSDP2 on the CPU")
def test_example(project, monkeypatch):
    """The output in docs/sharded.md equals pytest's output for the test on the page."""
    monkeypatch.setenv("COLUMNS", "100")
    project.path.joinpath("test_parallel.py").write_text(_block("python"), encoding="utf-8")
    result = project.run("-v", "test_parallel.py")
    result.assert_outcomes(passed=2)
    said = [line.rstrip() for line in result.stdout.lines]
    start = said.index("test_parallel.py")
    shown = _block("text").splitlines()
    assert said[start - 2 : start - 2 + len(shown)] == shown
