"""docs/hardware.md shows the profiles as they are, and its examples are read."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from pytest_flopsbudget.hardware.devices import DEVICES

DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS))

import hardware_table  # noqa: E402 -- the path first

PAGE = hardware_table.PATH.read_text(encoding="utf-8")


def test_the_page_shows_the_profiles():
    """Where this fails: make hardware-page."""
    assert hardware_table.page(PAGE) == PAGE


def test_every_device_has_a_row_and_sources():
    rows = re.findall(r"^\| ([\w-]+) \| .* \|$", PAGE, re.MULTILINE)
    sources = re.findall(r"^- \*\*([\w-]+)\*\*: \w", PAGE, re.MULTILINE)
    assert list(DEVICES) == [name for name in rows if name in DEVICES]
    assert list(DEVICES) == sources


def test_a_row_by_hand():
    """Figures are in the units that the page says."""
    row = "| A100 | 19.5 | 19.5 | 312 | 312 |  | 624 | 19.5, 78 | 1,555 | 40 | 0.9 |"
    assert row in PAGE


def test_a_page_without_its_markers():
    with pytest.raises(ValueError, match="lacks"):
        hardware_table.page("a")
