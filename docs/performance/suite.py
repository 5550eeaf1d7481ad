"""Measure how much time a budget adds to a test besides the count, and how much memory many tests need."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from performance.results import Suite

TESTS = 1_000
#: Seconds after which a run is ended.
SECONDS = 300
_MODELS = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 30 * 30, 10))

MODEL, IMAGE = net(), torch.empty(1, 3, 32, 32)
COUNTS = []
"""
_WITH_BUDGET = f"""
import pytest
from models import IMAGE, MODEL

@pytest.mark.parametrize("number", range({TESTS}))
@pytest.mark.flops_budget(flops="1 GFLOPs")
def test_net(flops_budget, number):
    flops_budget(MODEL, IMAGE)
"""
_DIRECT = f"""
from time import perf_counter
import pytest
from models import COUNTS, IMAGE, MODEL
from pytest_flopsbudget import measure

@pytest.mark.parametrize("number", range({TESTS}))
def test_net(number):
    start = perf_counter()
    measure(MODEL, IMAGE)
    COUNTS.append(perf_counter() - start)
"""
#: Times the run from its hundredth test, when everything is imported, to the end of the summary, and reads memory
#: after every tenth of the tests.
_CONFTEST = f"""
import json, time
import pytest
from performance.memory import resident

FOUND = {{"memory": []}}
DONE = 0

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    global DONE
    if DONE == {TESTS // 10}:
        FOUND["start"] = time.perf_counter()
    result = yield
    DONE += 1
    if DONE % {TESTS // 10} == 0:
        FOUND["memory"].append(resident())
    return result

def pytest_unconfigure(config):
    from models import COUNTS

    FOUND["seconds"], FOUND["counts"] = time.perf_counter() - FOUND["start"], sum(COUNTS[{TESTS // 10}:])
    with open("found.json", "w") as file:
        json.dump(FOUND, file)
"""
_DOCS = Path(__file__).parent.parent


def in_turn(rounds: int, suite: Suite, save: Callable[[], None]) -> None:
    """Run tests with a budget and tests without a budget alternately."""
    suite.tests = TESTS
    while len(suite.count) < rounds:
        for tests, seconds, growth in (
            (_WITH_BUDGET, suite.with_budget, suite.growth_with_budget),
            (_DIRECT, suite.direct, suite.growth_direct),
        ):
            found = _run(tests)
            seconds.append(found["seconds"] / (TESTS - TESTS // 10))
            growth.append(found["memory"][-1] - found["memory"][0])
        suite.count.append(found["counts"] / (TESTS - TESTS // 10))
        print(f"{TESTS:,} tests: {suite.with_budget[-1] * 1e3:.2f} ms each", flush=True)
        save()


def _run(tests: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for file, text in {"models.py": _MODELS, "test_net.py": tests, "conftest.py": _CONFTEST}.items():
            (directory / file).write_text(text)
        (directory / "pytest.ini").write_text(f"[pytest]\npythonpath = . {_DOCS}\n")
        command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
        subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=SECONDS)  # noqa: S603 -- this Python
        found: dict[str, Any] = json.loads((directory / "found.json").read_text())
        return found
