"""The imports between the files of the package.

A floor is a row of the table in docs/architecture.md.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = ROOT / "pytest_flopsbudget"

#: The floors of the package, lowest first, as docs/architecture.md lists them. A file may import from its own folder
#: and from lower floors, never from another folder on its own floor or above. A file directly in the package counts as
#: a folder.
FLOORS = [
    re.findall(r"`([^`]+)`", row)
    for row in re.findall(
        r"^\| \d+ \| (.+) \|$", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), re.MULTILINE
    )
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def files() -> dict[str, Path]:
    """Return {dotted name: path} for the files of the package."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """Return the files of the package that the file at ``path`` imports at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {
                name if (name := f"{node.module}.{alias.name}") in known else f"{node.module}" for alias in node.names
            }
    return found & known.keys()


def room_of(path: Path) -> str:
    """Return the entry of a file in the table of docs/architecture.md, which names the file or its folder."""
    own = path.relative_to(PACKAGE).with_suffix("").as_posix()
    return own if own in FLOOR_OF else path.parent.relative_to(PACKAGE).as_posix()


FILES = files()


@functools.cache
def graph() -> dict[str, set[str]]:
    """Return {file: the files that it imports}, both as dotted names."""
    return {name: imports_of(path, FILES) for name, path in FILES.items()}


def test_the_graph_is_seen():
    """`imports_of` finds imports at the top of a file, under TYPE_CHECKING and in functions."""
    assert len(FILES) > 150
    assert "pytest_flopsbudget.quantities.metrics" in graph()["pytest_flopsbudget.results.data"]
    assert "pytest_flopsbudget.counting.measure" in graph()["pytest_flopsbudget"]  # under TYPE_CHECKING
    assert "pytest_flopsbudget.plugin.session" in graph()["pytest_flopsbudget.plugin.hooks"]  # inside of a function


def test_no_circles():
    try:
        tuple(graphlib.TopologicalSorter(graph()).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_room_has_its_floor():
    assert {room_of(path) for path in FILES.values() if path.read_text(encoding="utf-8").strip()} == FLOOR_OF.keys()
    assert len(FLOOR_OF) == sum(map(len, FLOORS))


def test_nothing_imports_upward():
    """A file imports only from its folder and from folders on lower floors. The floors are in docs/architecture.md."""
    upward = [
        f"{name} -> {other}"
        for name, others in graph().items()
        for other in others
        if (here := room_of(FILES[name])) != (there := room_of(FILES[other])) and FLOOR_OF[there] >= FLOOR_OF[here]
    ]
    assert upward == []


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("pytest_flopsbudget", ["torch", "pytest", "msgspec", "rich"]),
        ("pytest_flopsbudget.counting.measure", ["pytest", "_pytest", "rich"]),
        ("pytest_flopsbudget.results.verdict", ["torch", "pytest", "_pytest"]),
        ("pytest_flopsbudget.storage.run_record", ["torch", "pytest", "_pytest"]),
        ("pytest_flopsbudget.reports.terminal.summary", ["torch", "pytest", "_pytest"]),
        ("pytest_flopsbudget.reports.terminal.explain", ["torch", "pytest", "_pytest"]),
        ("pytest_flopsbudget.reports.markdown.run", ["torch", "pytest", "_pytest", "rich"]),
        (
            "pytest_flopsbudget.reports.ci.github, pytest_flopsbudget.reports.ci.junit",
            ["torch", "pytest", "_pytest", "rich"],
        ),
        (
            "pytest_flopsbudget.reports.ci.csv, pytest_flopsbudget.reports.ci.gitlab",
            ["torch", "pytest", "_pytest", "rich"],
        ),
        ("pytest_flopsbudget.storage.report_file", ["torch", "pytest", "_pytest", "rich"]),
        ("pytest_flopsbudget.commands.main", ["torch", "pytest", "_pytest", "rich"]),
        (
            "pytest_flopsbudget.targets.grammar, pytest_flopsbudget.reports.profiles.speedscope",
            ["torch", "pytest", "_pytest", "rich"],
        ),
        ("pytest_flopsbudget.training.flops", ["torch", "pytest", "_pytest", "rich"]),
        ("pytest_flopsbudget.hardware.roofline", ["torch", "pytest", "_pytest", "msgspec", "rich"]),
        ("pytest_flopsbudget.hardware.catalog", ["torch", "pytest", "_pytest", "msgspec", "rich"]),
        ("pytest_flopsbudget.config.settings", ["torch", "pytest", "msgspec", "rich"]),
    ],
)
def test_what_a_room_does_without(module, without):
    code = f"import sys, {module}; print(*(set({without}) & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
