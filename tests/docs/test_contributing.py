"""CONTRIBUTING.md: its changes apply to a copy of the package, and its tests pass there."""

from __future__ import annotations

import json
import re
import shutil
from types import SimpleNamespace

import pytest
from page_story import Story
from paths import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def copy(pytester, monkeypatch):
    """A folder with a copy of the package, which subprocesses import."""
    shutil.copytree(
        ROOT / "pytest_flopsbudget", pytester.path / "pytest_flopsbudget", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    return pytester.path


def test_the_changes_work(pytester, copy):
    assert Story(SimpleNamespace(path=copy), None).play(PAGE) == 0
    pytester.makeini("[pytest]\n")
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "-p", "no:asyncio", "--flops-budget-badge=badge.json"
    )
    result.assert_outcomes(passed=2)
    badge = json.loads(copy.joinpath("badge.json").read_text(encoding="utf-8"))
    assert (badge["message"], badge["color"]) == ("1 test within budget", "green")


def test_make_has_the_commands():
    targets = set(re.findall(r"^(\S+):", ROOT.joinpath("Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    readme = ROOT.joinpath("README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^make (\S+)|`make (\S+)`", PAGE + readme, re.MULTILINE))
    assert {"test", "lint", "format", "docs"} < {one or other for one, other in named} <= targets
