"""The pages in docs/how-to/: their blocks run and show what the pages show."""

from __future__ import annotations

import contextlib
import importlib
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


LIBRARY = r"^(?:from|import) (transformers|timm|pytorch_lightning|peft|torchao)\b"
SECTIONS = [
    pytest.param(section, id=section.partition("\n")[0])
    for section in re.split(r"^## ", page("libraries"), flags=re.MULTILINE)[1:]
]


def row(line):
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


class TestOtherCounters:
    def test_the_table_is_a_part_of_the_comparison(self):
        table = page("other-counters").partition("\n| model ")[2].partition("\n\n")[0]
        head, _, *rows = map(row, f"| model {table}".splitlines())
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
        names["test_ratio"](budget)
        (kept,) = budget.close()
        assert kept.complexity.flops == 2 * (30 * 30 * 8 * 27 + 8 * 30 * 30 * 10)

    def test_hand_written_asserts(self, project):
        """Each argument in the table is accepted, and the page's model is within it."""
        rows = re.findall(r"^\| `assert [^|]* \| `([^`]+)`", page("other-counters"), re.MULTILINE)
        assert len(rows) == 8
        body = "\ndef test_{}(flops_budget):\n    flops_budget(model, image, name='teacher')\n"
        student = "    flops_budget(nn.Sequential(model[0]), image[..., :16], name='student')\n"
        tests = "".join(
            f"\n@pytest.mark.flops_budget({argument})" + body.format(number) + student * ("teacher" in argument)
            for number, argument in enumerate(rows)
        )
        project.path.joinpath("test_net.py").write_text(
            f"import pytest\n{blocks('other-counters')[0]}{tests}", encoding="utf-8"
        )
        project.run("--flops-budget-update").assert_outcomes(passed=8)
        project.run().assert_outcomes(passed=8)


def test_monorepo(project, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    project.pytester.syspathinsert()
    for package in ("vision", "text"):
        test = project.path / "packages" / package / f"test_{package}.py"
        test.parent.mkdir(parents=True)
        test.write_text(TEST_OF_A_PACKAGE, encoding="utf-8")
    assert Story(project, capsys).play(page("monorepo")) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # raised by the libraries
@pytest.mark.parametrize("section", SECTIONS)
def test_libraries(project, capsys, monkeypatch, section):
    library = re.findall(LIBRARY, section, re.MULTILINE)[0]
    try:
        importlib.import_module(library)
    except (ImportError, RuntimeError):  # timm needs torchvision, which may be built for another PyTorch
        pytest.skip(f"{library} is not installed")
    if library == "peft":
        without_an_old_torchao(monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    assert Story(project, capsys).play(section) == 1


def without_an_old_torchao(monkeypatch):
    """Hide torchao from peft if peft refuses it. An older PyTorch works with an older torchao only."""
    from peft.tuners.lora import torchao

    try:
        torchao.is_torchao_available()
    except ImportError:
        monkeypatch.setattr(torchao, "is_torchao_available", lambda: False)


def test_libraries_by_hand():
    # BERT: 12 * 12 * 768**2 weights in the layers, for each of 128 tokens; attention; the pooler and the head, for one.
    bert = 2 * 128 * 12 * 12 * 768**2 + 12 * 2 * 2 * 128**2 * 768 + 2 * (768**2 + 768 * 2)
    # Digits: two linear layers. Each step has three products of each layer, except for the gradient of the first input.
    first, second = 28 * 28 * 128, 128 * 10
    # LoRA of rank 8 beside each of the 12 layers of GPT-2 from 768 to 3 * 768.
    adapters = 12 * 8 * (768 + 3 * 768)
    assert adapters == 294_912  # of 300k trainable parameters: 98.3%
    for value in (
        f"{bert / 1e9:.2f} GFLOPs",
        f"{2 * (first + second) / 1e3:.1f} kFLOPs",
        f"{2 * 64 * (2 * first + 3 * second) / 1e6:.2f} MFLOPs",
        f"{2 * 16 * 2 * 1024 * 4096 / 1e6:.1f} MFLOPs",
    ):
        assert f" {value} " in page("libraries")


def test_training_steps(project, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert Story(project, capsys).play(page("training-steps")) == 1
    product = 2 * 32 * 256 * 128
    phases = dict(re.findall(r"^\((\w+)\) +(\S+) MFLOPs$", page("training-steps"), re.MULTILINE))
    assert phases == {"forward": f"{2 * product / 1e6:.3f}", "backward": f"{3 * product / 1e6:.3f}"}


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
