"""Measure how much time the plugin adds to a run of pytest without measurements."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from performance.results import Startup

RUNS = 25
#: Seconds after which a run is ended.
SECONDS = 60
_PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
_OFF = ("-p", "no:flopsbudget")
_TEST = "def test_nothing(): pass\n"
#: Python caches its bytecode, as by default.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
#: Packages that a run without measurements must not import.
HEAVY = ("torch", "msgspec", "rich")
_CONFTEST = f"""
import sys

def pytest_unconfigure(config):
    sys.__stdout__.write("loaded: " + " ".join(sorted(set({HEAVY}) & sys.modules.keys())) + "\\n")
"""
#: Imports pytest first, because it is loaded anyway. Python's timing does not list plugins that pytest imports itself.
_IMPORTS = (sys.executable, "-X", "importtime", "-c", "import pytest, pytest_flopsbudget.plugin.hooks")
#: The line of -X importtime about the plugin: its self time, and its total time with all its imports.
_IMPORT = re.compile(r"import time:\s+\d+ \|\s+(\d+) \| pytest_flopsbudget\.plugin\.hooks$", re.MULTILINE)


def in_turn(runs: int, startup: Startup, save: Callable[[], None]) -> None:
    """Run pytest alternately with and without the plugin."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "test_nothing.py").write_text(_TEST)
        (directory / "pytest.ini").write_text("[pytest]\n")
        _run(directory)  # writes the bytecode of the test and of the plugin
        _import(directory)
        while len(startup.without) < runs:
            # On some machines the second run of a pair is a little faster or slower, so the order alternates.
            pair = [(startup.with_plugin, ()), (startup.without, _OFF)]
            for times, options in pair if len(startup.without) % 2 else reversed(pair):
                times.append(_run(directory, *options))
            startup.imports.append(_import(directory))
            save()
        (directory / "conftest.py").write_text(_CONFTEST)
        startup.loaded = _output(directory, *_PYTEST).stdout.split("loaded: ")[1].splitlines()[0].split()
    save()


def _run(directory: Path, *options: str) -> float:
    before = _processor_time()
    _output(directory, *_PYTEST, *options)
    return _processor_time() - before


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _import(directory: Path) -> float:
    found = _IMPORT.search(_output(directory, *_IMPORTS).stderr)
    if found is None:
        raise RuntimeError("python -X importtime does not list the plugin")
    return int(found[1]) / 1e6


def _output(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- commands of this file
        command, cwd=directory, env=_ENVIRONMENT, check=True, capture_output=True, text=True, timeout=SECONDS
    )
