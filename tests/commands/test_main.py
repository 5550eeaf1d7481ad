"""Behaviour that all commands share."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from samples import GitProject, linear, report, reported_test

import pytest_flopsbudget
from pytest_flopsbudget.commands import history
from pytest_flopsbudget.storage.report_file import save

PYPROJECT = ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8")

COMMANDS = (
    "measure",
    "compare",
    "law",
    "audit",
    "mfu",
    "run",
    "init",
    "accept",
    "merge",
    "diff",
    "rename",
    "history",
    "page",
    "export",
    "github",
)

#: A script that runs the given command lines while PyTorch and pytest cannot be imported. It prints the exit codes and
#: the loaded modules.
WITHOUT_TORCH = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "pytest", "_pytest"}:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Absent())
from pytest_flopsbudget.commands.main import main

codes = [main(argv) for argv in json.loads(sys.argv[1])]
print(json.dumps({"codes": codes, "loaded": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def python(*argv, check=True):
    command = [sys.executable, *argv]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=check)


def test_without_torch_and_pytest(command, tmp_path):
    project = GitProject(tmp_path / "here")
    project.commit("One", {"test_a.py": {"t": linear(4)}})
    project.commit("Two", {"test_a.py": {"t": linear(5)}})
    save(report(reported_test("test_a.py::t", linear(6), linear(5))), Path("one.json"))
    save(report(reported_test("test_a.py::u", linear(6))), Path("two.json"))
    lines = [
        ["merge", "one.json", "two.json", "-o", "all.json"],
        ["accept", "all.json"],
        ["diff", "HEAD~..HEAD"],
        ["diff", "one.json", "two.json", "--markdown"],
        ["rename", "test_a.py::u", "test_a.py::v"],
        ["history"],
        ["history", "test_a.py::t"],
        ["page", "one.json", "-o", "page.html"],
        ["export", "one.json", "--speedscope", "s.json", "--collapsed", "c.txt"],
        ["init"],
        ["histroy"],
    ]
    run = python("-c", WITHOUT_TORCH, json.dumps(lines))
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["codes"] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2]
    assert not {"torch", "pytest", "_pytest", "numpy"} & set(found["loaded"])


def test_as_a_module(command):
    run = python("-m", "pytest_flopsbudget", "histroy", check=False)
    assert run.returncode == 2
    assert run.stderr == (
        "error: no command 'histroy'; did you mean history? (see python -m pytest_flopsbudget --help)\n"
    )


def test_version(command, capsys):
    with pytest.raises(SystemExit) as exit_info:
        command("--version")
    assert exit_info.value.code == 0
    version = pytest_flopsbudget.__version__
    assert f'\nversion = "{version}"\n' in PYPROJECT
    assert capsys.readouterr().out.startswith(f"pytest-flopsbudget {version} (PyTorch 2.")


def test_the_console_script_is_named_in_its_messages(command, monkeypatch):
    assert '[project.scripts]\nflopsbudget = "pytest_flopsbudget.commands.main:main"\n' in PYPROJECT
    monkeypatch.setattr(sys, "argv", ["/bin/flopsbudget"])
    command("histroy")
    assert command.errors == "error: no command 'histroy'; did you mean history? (see flopsbudget --help)\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(command, name, capsys):
    with pytest.raises(SystemExit) as exit_info:
        command(name, "--help")
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    examples = text.partition("examples:\n")[2]
    assert f"  python -m pytest_flopsbudget {name}" in examples
    assert examples.count("flopsbudget ") == examples.count("  python -m pytest_flopsbudget ")
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_a_narrow_terminal(command, name, capsys, monkeypatch):
    """Paragraphs are wrapped; indented examples may be longer, because a wrapped command cannot be copied."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        command(*filter(None, [name]), "--help")
    explained = capsys.readouterr().out.partition("examples:")[0]
    assert max(map(len, explained.splitlines())) <= 80


def test_help_names_all_commands(command, capsys):
    with pytest.raises(SystemExit):
        command("--help")
    text = capsys.readouterr().out
    assert all(f"\n    {name} " in text for name in COMMANDS)
    assert "exit codes: 0 " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_docs_name_every_option(command, name, capsys):
    with pytest.raises(SystemExit):
        command(name, "--help")
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", capsys.readouterr().out.partition("examples:")[0]))
    page = ROOT.joinpath("docs", "commands.md").read_text(encoding="utf-8")
    about = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert f"    flopsbudget {name} " in about
    # The page describes the options of all commands in another section; options with --flops-budget- belong to pytest.
    own = {option for option in options if not option.startswith("--flops-budget")} - {"--help", "--no-color"}
    assert {option for option in own if option not in about} <= {"--output"}


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["acept", "x"], "no command 'acept'; did you mean accept?"),
        (["zzz"], "no command 'zzz'; there are measure, compare, law, audit,"),
        (["--metric", "flops"], "no command 'flops'"),
        (["--version-of-what"], "COMMAND"),
        (["-x"], "COMMAND"),
    ],
)
def test_no_such_command(command, argv, told):
    assert command(*argv) == []
    assert command.code == 2
    assert told in command.errors
    assert command.errors.count("\n") == 1


def test_no_command_at_all(command):
    assert command()[0] == "usage: python -m pytest_flopsbudget [-h] [--no-color] [--version] COMMAND ..."
    assert command.code == 2


def test_ctrl_c_is_no_traceback(command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(history, "run", interrupted)
    assert command("history") == []
    assert command.code == 130
    assert command.errors == ""


def test_a_reader_that_has_read_enough(command, tmp_path):
    """If the reader closes the pipe early (``history | head -1``), Python writes no traceback."""
    project = GitProject(tmp_path / "here")
    project.commit("One", {"test_a.py": {f"test_{number}": linear(number) for number in range(1, 3_000)}})
    argv = [sys.executable, "-m", "pytest_flopsbudget", "history"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
