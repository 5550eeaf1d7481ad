"""docs/tutorial/first-budget.md: its commands run, and show what the page shows."""

from __future__ import annotations

import os
import sys

import pytest
from page_story import Story, first_missing
from paths import DOCS

PAGE = (DOCS / "tutorial" / "first-budget.md").read_text(encoding="utf-8")


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Keep git and the terminal independent of the machine's settings."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "ada@example.org")
    monkeypatch.setattr(sys, "argv", ["pytest_flopsbudget"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # raised by transformers
@pytest.mark.usefixtures("alone")
def test_the_story(project, capsys):
    assert Story(project, capsys).play(PAGE) == PAGE.count("\n$ ") == 15


def test_by_hand():
    # Weights: 12 * (4 + 8) * 768**2 in the blocks, 50,257 * 768 in the head. The last term is attention.
    attention = 12 * 2 * 2 * 128**2 * 768
    before = 2 * 128 * (12 * 12 * 768**2 + 50_257 * 768) + attention
    grown = 2 * 128 * 12 * 2 * 768 * (4096 - 3072)
    assert f"{before / 10**9:.2f} GFLOPs  {(before + grown) / 10**9:.2f} GFLOPs" == "32.23 GFLOPs  37.06 GFLOPs"
    assert "32.23 GFLOPs  37.06 GFLOPs" in PAGE
    assert f"+{grown / 2 / 10**9:.3f} GFLOPs" == "+2.416 GFLOPs"


class TestFirstMissing:
    def test_gaps_and_times(self):
        said = "a\nb\nc in 0.52 s\nd\n"
        assert first_missing("...\nb\nc in 1.00 s\n...\n", said) is None
        assert first_missing("a\n...\nd\n", said) is None

    def test_lines_that_are_not_shown(self):
        assert first_missing("a\nc in 0.52 s\n", "a\nb\nc in 0.52 s\n") == "c in #"
        assert first_missing("...\nd\na\n", "a\nd\n") == "a"
