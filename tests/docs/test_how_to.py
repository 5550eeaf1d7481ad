"""The pages in docs/how-to/: their blocks run and show what the pages show."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re

import pytest
from page_story import Story
from paths import DOCS

from pytest_flopsbudget import FlopsBudget

FOLDER = DOCS / "how-to"
COMPARISON = (DOCS / "comparison.md").read_text(encoding="utf-8")

TEST_OF_A_PACKAGE = """
import pytest
from models import *

@pytest.mark.flops_budget
def test_net(flops_budget):
    flops_budget(Net(), IMAGE)
"""


def page(name):
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def blocks(name):
    return re.findall(r"^```python\n(.*?)^```$", page(name), re.DOTALL | re.MULTILINE)


def row(line):
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


class TestOtherCounters:
    def test_the_table_is_a_part_of_the_comparison(self):
        head, _, *rows = (row(line) for line in page("other-counters").splitlines() if line.startswith("| "))
        whole = {
            cells[0]: cells for cells in map(row, COMPARISON.splitlines()) if len(cells) == 12 and cells[0] != "case"
        }
        places = [whole["model"].index(name) for name in head]
        assert len(rows) == 5
        assert rows == [[whole[cells[0]][place] for place in places] for cells in rows]

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # raised by fvcore
    def test_blocks(self):
        """Blocks whose counter is installed run, and each commented value equals the counter's."""
        names = {}
        ran = 0
        for block in blocks("other-counters"):
            (other,) = re.findall(r"^from (fvcore|thop|ptflops|torchinfo|deepspeed)\b", block, re.MULTILINE) or [None]
            if other and not importlib.util.find_spec(other):
                continue
            with contextlib.redirect_stdout(io.StringIO()):
                exec(block, names)  # noqa: S102 -- from our documentation
            ran += 1
            for theirs, ours in re.findall(r"^([\w\[\]\"().=, ]+?)  +# (m[.\[].*)$", block, re.MULTILINE):
                value = (names["macs"], names["params"]) if theirs.startswith("macs") else eval(theirs, names)  # noqa: S307
                assert value == eval(ours, names), theirs  # noqa: S307
        assert ran >= 4
        budget = FlopsBudget()
        names["test_model"](budget)
        (kept,) = budget.close()
        assert kept.complexity.flops == 2 * (30 * 30 * 8 * 27 + 8 * 30 * 30 * 10)


def test_monorepo(project, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    project.pytester.syspathinsert()
    for package in ("vision", "text"):
        test = project.path / "packages" / package / f"test_{package}.py"
        test.parent.mkdir(parents=True)
        test.write_text(TEST_OF_A_PACKAGE, encoding="utf-8")
    assert Story(project, capsys).play(page("monorepo")) == 2


def test_notebooks():
    names = {}
    for block in blocks("notebooks"):
        *lines, last = block.rstrip().splitlines()
        exec("\n".join(lines), names)  # noqa: S102 -- from our documentation
        assert "<table" in eval(last, names)._repr_html_()  # noqa: S307


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # raised by transformers
def test_large_models(capsys):
    (block,) = blocks("large-models")
    exec(block, {})  # noqa: S102 -- from our documentation
    (shown,) = re.findall(r"```text\n(.*?)```", page("large-models"), re.DOTALL)
    assert capsys.readouterr().out == shown
    width, inner, layers, words, keys, tokens = 4096, 14336, 32, 128256, 8 * 128, 128
    layer = 2 * width * width + 2 * width * keys + 3 * width * inner
    attention = layers * 2 * 2 * tokens**2 * width
    params = layers * (layer + 2 * width) + 2 * words * width + width
    assert shown == f"{params:,} parameters, {2 * tokens * (layers * layer + words * width) + attention:,} FLOPs\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # raised by transformers
def test_llm_budgets(project, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = page("llm-budgets")
    before, _, after = text.partition("```diff")
    story = Story(project, capsys)
    story.play(before)
    project.run("test_serving.py").assert_outcomes(passed=1)
    assert story.play(f"```diff{after}") == 1
    (block,) = (block for block in blocks("llm-budgets") if "print(" in block)
    capsys.readouterr()
    exec(block, {})  # noqa: S102 -- from our documentation
    (shown,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert capsys.readouterr().out == shown
    width, inner, layers, words, keys, batch = 4096, 14336, 32, 128256, 8 * 128, 32
    weights = layers * (2 * width * width + 2 * width * keys + 3 * width * inner) + words * width
    steps = sum(2 * batch * (weights + 2 * layers * width * length) for length in range(2049, 2304))
    assert f"all 255 steps: {steps:,} FLOPs\n" in shown
