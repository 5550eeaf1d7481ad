"""A project with many tests, for tests of ways to run pytest.

Its models return fixed costs, so that no test needs PyTorch. With the environment variable ``AGE=old``, some models
have other costs than with ``AGE=new``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import without_torch
from conftest import SOURCES

from pytest_flopsbudget.storage.baseline import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFTEST = """
import os

import build
import pytest


@pytest.fixture
def costs(flops_budget):
    def costs(old, new, **name):
        flops = old if os.environ["AGE"] == "old" else new
        flops_budget(lambda: build.net(flops, 7), "an input", **name)

    return costs
"""

FILES = {
    "test_a.py": """
import os
import pytest

OLD = os.environ["AGE"] == "old"

def test_same(costs):
    costs(100, 100)

def test_expensive(costs):
    costs(100, 150)

@pytest.mark.slow
def test_cheaper(costs):
    costs(100, 50)

if OLD:
    def test_gone(costs):
        costs(100, 100)

@pytest.mark.skipif(OLD, reason="not there yet")
@pytest.mark.parametrize("x", [10, 2, 1])
def test_added(costs, x):
    costs(x, x)
""",
    "test_b.py": """
import os
import pytest

OLD = os.environ["AGE"] == "old"

class TestClass:
    def test_names(self, costs):
        costs(1, 1, name="kept")
        costs(2, 2, name="before" if OLD else "after")

    @pytest.mark.flops_budget(flops=120)
    def test_over(self, costs):
        costs(100, 150)

    def test_fails(self, costs):
        costs(100, 150)
        assert OLD

    @pytest.mark.skipif(not OLD, reason="no")
    def test_skipped(self, costs):
        costs(100, 150)

    @pytest.mark.xfail(not OLD, reason="no", strict=True)
    def test_fails_as_expected(self, costs):
        costs(100, 150)

def test_measures_nothing():
    pass
""",
    "sub/test_c.py": """
import pytest

@pytest.mark.parametrize("letter", "zyx")
def test_letters(costs, letter):
    costs(10, 10 if letter == "y" else 5)

@pytest.mark.slow
def test_late(costs):
    costs(100, 150)

def test_last(costs):
    costs(20, 20)
""",
}

INI = "[pytest]\nmarkers = slow: takes long\n"


@dataclass(frozen=True)
class Outcome:
    status: int
    text: str
    errors: str
    #: Baseline file, relative to the project → its bytes.
    baselines: Mapping[str, bytes]
    #: Node id → name of the measurement → FLOPs in the baseline.
    flops: Mapping[str, Mapping[str, int]]

    @property
    def summary(self) -> list[str]:
        """Return the plugin's lines in the summary, without the time that counting took."""
        lines = self.text.splitlines()
        start = next((n for n, line in enumerate(lines) if re.fullmatch("=+ flops budgets =+", line)), len(lines))
        end = next((n for n, line in enumerate(lines) if n > start and line.startswith("=====")), len(lines))
        return [re.sub(r"counted in \d+\.\d\d s$", "counted", line) for line in lines[start + 1 : end]]


class ManyTests:
    """A folder with the project's files, in which pytest can run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name, text in {"conftest.py": CONFTEST, "pytest.ini": INI, **FILES}.items():
            path.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
            path.joinpath(name).write_text(text, encoding="utf-8")

    def run(
        self, *args: str, age: str = "new", cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> Outcome:
        """Run pytest in another process, and return its results."""
        variables = {**os.environ, "AGE": age, "COLUMNS": "100", "PYTHONPATH": SOURCES, "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *without_torch.ARGUMENTS, *args],
            cwd=cwd or self.path,
            env={**variables, **(environment or {})},
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=120,
        )
        baselines = {path: path.read_bytes() for path in sorted(self.path.rglob("__flops__/*.json"))}
        return Outcome(
            done.returncode,
            done.stdout,
            done.stderr,
            {path.relative_to(self.path).as_posix(): data for path, data in baselines.items()},
            {
                f"{path.parent.parent.joinpath(path.stem).relative_to(self.path).as_posix()}.py::{test}": {
                    name: entry.flops for name, entry in entries.items()
                }
                for path in baselines
                for test, entries in load(path).tests.items()
            },
        )

    def restore(self, baselines: Mapping[str, bytes]) -> None:
        """Replace all baselines of the project by ``baselines``, which is {path in the project: content}."""
        for path in self.path.rglob("__flops__/*.json"):
            path.unlink()
        for name, data in baselines.items():
            self.path.joinpath(name).write_bytes(data)
