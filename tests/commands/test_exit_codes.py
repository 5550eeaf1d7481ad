"""Each row of the table in docs/commands.md: the exit codes of commands and of pytest."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from paths import DOCS
from samples import GitProject, linear, report, reported_test

from pytest_flopsbudget.commands import diff
from pytest_flopsbudget.commands.main import _COMMANDS
from pytest_flopsbudget.storage.report_file import save

TABLE = DOCS.joinpath("commands.md").read_text(encoding="utf-8").partition("\n## Exit codes\n")[2]
ROWS = {
    (int(code), name)
    for codes, names in re.findall(r"^\| ([\d, ]+) \| (.+?) \|", TABLE, re.MULTILINE)
    for code in codes.split(", ")
    for name in (_COMMANDS if names == "all commands" else re.findall(r"`(\w+)[^`]*`", names))
}

PASSES, FAILS = "ok.json", "grown.json"

#: (exit code, arguments). The files are those of the fixture below.
CALLS = [
    (0, ["accept", PASSES]),
    (1, ["accept", "stale.json"]),
    (0, ["merge", PASSES, "-o", "joint.json"]),
    (1, ["merge", PASSES, "other.json", "-o", "joint.json"]),
    (0, ["diff", PASSES, FAILS]),
    (1, ["diff", PASSES, FAILS, "--exit-code"]),
    (0, ["rename", "test_a.py::t", "test_a.py::v"]),
    (0, ["history"]),
    (0, ["page", PASSES, "-o", "page.html"]),
    (0, ["export", PASSES, "--collapsed", "c.txt"]),
    (0, ["init"]),
    (1, ["init", "--write"]),
    (0, ["github", PASSES, "--publish", "annotations"]),
    (0, ["measure", "net:build", "--input", "2x4"]),
    (0, ["compare", "net:build", "net:build", "--input", "2x4"]),
    (2, ["measure", "net:build", "--input", "2x5"]),
    (2, ["compare", "net:build", "net:gone", "--input", "2x4"]),
    (0, ["law", "net:build", "--input", "{B}x4", "--B", "1:8"]),
    (1, ["law", "net:build", "--input", "{B}x4", "--B", "1:8", "--solve", "flops <= 31"]),
    (2, ["law", "net:build", "--input", "{B}x5", "--B", "1:8"]),
    (0, ["audit", "net:right", "net:build", "--input", "{B}x4", "--B", "1:8", "--per", "call"]),
    (1, ["audit", "net:wrong", "net:build", "--input", "{B}x4", "--B", "1:8", "--per", "call"]),
    (2, ["audit", "net:gone", "net:build", "--input", "{B}x4", "--B", "1:8", "--per", "call"]),
    (0, ["mfu", "net:build", "--input", "2x4", "--tokens", "2"]),
    (2, ["mfu", "net:build", "--input", "2x4"]),
    (0, ["run", "net:tokens", "--tokens", "8", "--batch", "1", "--sequence", "4"]),
    (2, ["run", "net:build", "--tokens", "8", "--batch", "1", "--sequence", "4"]),
    *((2, [name, "--no-such-option"]) for name in _COMMANDS),
]


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x)

def build():
    return Net()

def tokens():
    return nn.Sequential(nn.Embedding(3, 4), Net())

def right(B):
    return 32 * B

def wrong(B):
    return 16 * B
"""


@pytest.fixture
def files(command, monkeypatch):
    project = GitProject(Path())
    Path("net.py").write_text(NET)
    project.commit("One", {"test_a.py": {"t": linear(4)}})
    save(report(reported_test("test_a.py::t", linear(4), linear(4))), Path(PASSES))
    save(report(reported_test("test_a.py::t", linear(5), linear(4))), Path(FAILS))
    save(report(reported_test("test_b.py::u", linear(5), linear(4))), Path("other.json"))
    # This report saw another baseline than the one that exists, so that its measurement is not accepted.
    save(report(reported_test("test_a.py::t", linear(6), linear(9))), Path("stale.json"))
    for name in ("pyproject.toml", "test_flops_budget.py"):
        Path(name).touch()
    monkeypatch.syspath_prepend(Path.cwd())
    yield
    sys.modules.pop("net", None)


@pytest.mark.parametrize(("code", "argv"), CALLS, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_commands(files, command, argv, code):
    command(*argv)
    assert (command.code, (code, argv[0]) in ROWS) == (code, True)
    assert (code == 2) == command.errors.startswith("error: ") or command.code == 1


def test_every_row_is_tested():
    """Codes of signals, of GitHub's refusals and of pytest have tests in other files, or below."""
    elsewhere = {(130, name) for name in _COMMANDS} | {(141, name) for name in _COMMANDS} | {(1, "github")}
    assert {(code, argv[0]) for code, argv in CALLS} | elsewhere | {(code, "pytest") for code in range(6)} == ROWS


def test_ctrl_c(files, command, monkeypatch):
    monkeypatch.setattr(diff, "run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    command("diff", PASSES, FAILS)
    assert command.code == 130


@pytest.mark.parametrize(
    ("code", "flags"),
    [
        (0, ["-k", "cheap"]),
        (1, ["-k", "expensive"]),
        (1, ["-k", "cheap", "--flops-budget-require=2"]),
        (4, ["--flops-budget-update=some"]),
        (5, ["-k", "absent"]),
    ],
)
def test_pytest(project, code, flags):
    project.write(
        """
@pytest.mark.flops_budget(params=1000)
def test_cheap(flops_budget):
    flops_budget(Net(), IMAGE)

@pytest.mark.flops_budget(params=10)
def test_expensive(flops_budget):
    flops_budget(Net(), IMAGE)
"""
    )
    assert project.run(*flags).ret == code
