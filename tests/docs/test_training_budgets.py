"""docs/how-to/training-budgets.md and three sections of docs/commands.md show what is printed."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from paths import DOCS

pytest.importorskip("transformers")

PAGE = (DOCS / "how-to" / "training-budgets.md").read_text(encoding="utf-8")
COMMANDS = (DOCS / "commands.md").read_text(encoding="utf-8")
BLOCKS = re.compile(r"```python\n((?:(?!```).)*)```(?:(?!```).)*```text\n((?:(?!```).)*)```", re.DOTALL)
#: The function that the section on `audit` describes.
FORMULA = "def flops_per_token(model):\n    return 6 * sum(p.numel() for p in model.parameters())\n"


def test_the_page_shows_what_is_printed():
    names = {}
    blocks = BLOCKS.findall(PAGE)
    assert len(blocks) == PAGE.count("```python\n") == 5
    for code, shown in blocks:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(code, names)  # noqa: S102 -- from our documentation
            if "test_flops_per_token" in code:
                with pytest.raises(AssertionError) as error:
                    names["test_flops_per_token"]()
                output.write(str(error.value).partition("\nassert ")[0] + "\n")
        assert output.getvalue() == shown


def test_every_convention_has_its_row():
    from pytest_flopsbudget.training.conventions import CONVENTIONS

    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(CONVENTIONS)


@pytest.mark.parametrize("name", ["mfu", "audit", "run"])
def test_commands(command, name):
    """The lines below a command in its section are lines of its output, in order."""
    section = COMMANDS.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    call, *shown = re.search(r"^    \$ flopsbudget (.*\n(?:    .*\n)+)", section, re.MULTILINE)[1].splitlines()
    Path("mypkg").mkdir()
    Path("mypkg", "__init__.py").touch()
    Path("mypkg", "costs.py").write_text(FORMULA, encoding="utf-8")
    lines = iter(command(*call.replace("'", "").split()))
    assert shown
    assert [line for line in shown if line.removeprefix("    ") not in lines] == []
