"""docs/sharded.md shows a test, and pytest's output for it."""

from __future__ import annotations

import re

from features import has, requires
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
    said = said[start - 2 : start - 2 + len(shown)]
    if has("fsdp::chunk_cat_mixed_dtype"):
        # With this operator, FSDP2 has another peak than the page shows. Only the lines of the peak may differ.
        said, shown = _without_the_last_peak(said), _without_the_last_peak(shown)
    assert said == shown


def _without_the_last_peak(lines: list[str]) -> list[str]:
    last = max(index for index, line in enumerate(lines) if line.startswith("  peak "))
    return lines[:last] + lines[last + 2 :]  # a peak has two lines
