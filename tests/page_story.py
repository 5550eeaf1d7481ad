"""Plays a page of the documentation: writes its files, makes its edits, runs its commands, and compares their output.

The blocks of the page mean:

- a block that begins with ``# name.py`` or ``# name.toml``: a file;
- ``diff``, beginning with ``--- name``: an edit of that file, its lines with "-" become those with "+";
- ``console``: lines with ``$`` are commands, the other lines their output; ``...`` stands for lines that are left out.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flopsbudget.commands.main import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")
#: What differs from run to run: times, and the short names of commits.
_VARIES = re.compile(r"\d+\.\d+ ?s\b|\b[0-9a-f]{7,10}\b")
_LEFT_OUT = "..."


@dataclass
class Story:
    """A folder in which the blocks of a page happen. pytest and our commands run in this process."""

    project: object
    capsys: pytest.CaptureFixture[str]

    @property
    def folder(self) -> Path:
        return self.project.path

    def play(self, page: str) -> int:
        """Play the blocks of the page one after the other. Return the number of commands that ran."""
        commands = 0
        for language, text in _BLOCK.findall(page):
            if language == "console":
                commands += self._console(text)
            elif language == "diff":
                self._edit(text)
            elif file := _FILE.match(text):
                path = self.folder / file[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        return commands

    def _console(self, text: str) -> int:
        steps = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
        for step in steps:
            command, _, shown = step.partition("\n")
            said = self._run(shlex.split(command, comments=True))
            missing = first_missing(shown, said)
            assert missing is None, f"$ {command}\nshows no {missing!r} but\n{said}"
        return len(steps)

    def _run(self, words: list[str]) -> str:
        program, *arguments = words
        if program == "pip":
            return ""
        if program == "git":
            return subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=True).stdout
        self.capsys.readouterr()
        if program == "pytest":
            self.project.run(*arguments)
        elif program == "flopsbudget":
            main(arguments)
        else:
            assert words[:3] == ["python", "-m", "pytest_flopsbudget"]
            main(words[3:])
        sys.modules.pop("models", None)  # a command imported it; the page may change it
        return self.capsys.readouterr().out

    def _edit(self, text: str) -> None:
        name, *lines = text.removeprefix("--- ").splitlines()
        old = "\n".join(line[1:] for line in lines if not line.startswith("+"))
        new = "\n".join(line[1:] for line in lines if not line.startswith("-"))
        path = self.folder / name
        before = path.read_text(encoding="utf-8")
        assert before.count(old) == 1, f"{name} has not once: {old}"
        path.write_text(before.replace(old, new), encoding="utf-8")


def first_missing(shown: str, said: str) -> str | None:
    """Return the first shown line that the output lacks at its place; None if the output is as shown."""
    rest = [_VARIES.sub("#", line.rstrip()) for line in said.splitlines()]
    anywhere = True
    for line in (_VARIES.sub("#", line.rstrip()) for line in shown.splitlines()):
        if line == _LEFT_OUT:
            anywhere = True
            continue
        places = range(len(rest)) if anywhere else range(min(1, len(rest)))
        place = next((place for place in places if rest[place] == line), None)
        if place is None:
            return line
        del rest[: place + 1]
        anywhere = False
    return None
