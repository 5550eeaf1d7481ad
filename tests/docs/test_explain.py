"""docs/explain.md shows the page that a run prints now, and has a row for each rule of advice."""

from __future__ import annotations

import re
import sys

import pytest
from paths import DOCS

from pytest_flopsbudget.reports import advice

sys.path.append(str(DOCS))

import explain_page

PAGE = explain_page.PATH.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # raised by transformers
def test_the_page_is_what_a_run_shows():
    """docs/explain.md equals the output of a run now. If this test fails, run `make explain-page`."""
    assert explain_page.page(PAGE) == PAGE


def test_by_hand():
    # Weights: 12 * (4 + 8) * 768**2 in the layers, 50,257 * 768 in the head. The last term is attention.
    flops = 2 * 128 * (12 * 12 * 768**2 + 50_257 * 768) + 12 * 2 * 2 * 128**2 * 768
    assert f"{flops / 10**9:.2f} GFLOPs" == "32.23 GFLOPs"
    assert re.search(r"^  FLOPs +32\.23 GFLOPs ", PAGE, re.MULTILINE)


def test_every_rule_has_a_row():
    rows = re.findall(r"^\| (?!advice|---).* \| .* \|$", PAGE, re.MULTILINE)
    assert len(rows) == len(advice._RULES) + 1


def test_no_line_is_wider_than_the_screen():
    (shown,) = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
    assert max(map(len, shown.splitlines())) <= 80


def test_a_page_without_its_markers():
    with pytest.raises(ValueError, match="lacks"):
        explain_page.page("a")
