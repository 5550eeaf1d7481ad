"""docs/results.md shows what its examples print."""

from __future__ import annotations

import contextlib
import io
import re

from paths import DOCS

PAGE = DOCS / "results.md"


def printed(page):
    """Run the examples of a page one after the other, and return the page with the text that each printed."""
    names = {}

    def run(block):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(block[1], names)  # noqa: S102 -- from our documentation
        return f"```python\n{block[1]}```\n\n```text\n{output.getvalue()}```"

    return re.sub(r"```python\n(.*?)```\n\n```text\n.*?```", run, page, flags=re.DOTALL)


def test_the_page_shows_what_is_printed(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    page = PAGE.read_text(encoding="utf-8")
    assert printed(page) == page
    assert page.count("```text\n") == page.count("```python\n") == 4


def test_by_hand():
    # A convolution costs 2 FLOPs for each multiply-accumulate at each of 8 * 8 positions.
    stem, block, head = 2 * 64 * 16 * 3 * 4 * 4, 2 * 64 * 16 * 16 * 3 * 3, 2 * 16 * 10
    page = PAGE.read_text(encoding="utf-8")
    assert f"{(stem + 3 * block + head) / 10**6:.3f} MFLOPs" == "0.983 MFLOPs"
    assert "983.4 kFLOPs" in page
    assert re.search(rf"\{{0-2\}} .* {3 * block / 1000:.1f} k ", page)
    # Convolutions of 5 * 5 instead of 3 * 3.
    assert re.search(
        rf"conv .*3x3 -> 5x5 .* {3 * block / 1000:.1f} k +{3 * block * 25 / 9 / 10**6:.3f} M +\+177\.8%", page
    )


def test_the_lines_fit():
    for block in re.findall(r"```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        assert max(map(len, block.splitlines())) <= 100
