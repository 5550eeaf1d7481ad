"""docs/laws.md shows what its examples print."""

from __future__ import annotations

import contextlib
import io
import re
import sys

import pytest
from paths import DOCS, ROOT

sys.path.append(str(DOCS))

PAGE = DOCS / "laws.md"
BLOCKS = re.compile(r"```python\n((?:(?!```).)*)```\n\n```text\n((?:(?!```).)*)```", re.DOTALL)
#: The first line of an example that is a test.
TEST = "# test_attention.py\n"
REGRESSED = "# test_net.py\n"


def printed(page):
    names = {}

    def run(block):
        if block[1].startswith((TEST, REGRESSED)):
            return block[0]
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(block[1], names)  # noqa: S102 -- from our documentation
        return f"```python\n{block[1]}```\n\n```text\n{output.getvalue()}```"

    return BLOCKS.sub(run, page)


def test_the_page_shows_what_is_printed():
    page = PAGE.read_text(encoding="utf-8")
    assert printed(page) == page
    assert len(BLOCKS.findall(page)) == page.count("```python\n") == 7


def test_by_hand():
    page = PAGE.read_text(encoding="utf-8")
    width = 64
    law = f"{4 * width}·S² + {8 * width**2:,}·S"
    assert law in page
    assert f"{4 * width * 8192**2 + 8 * width**2 * 8192:,} FLOPs for 8,192 tokens" in page
    assert f"windows: {8 * 8**2 * 16 + 4 * 8 * 16**2:,}·⌈n/16⌉" in page
    assert f"patches: {2 * 3 * 8 * 16 * 16:,}·⌊n/16⌋²" in page


def failure(project, definitions, test, before=None):
    if before is not None:
        project.write(f"import torch\nfrom torch import nn\n{definitions}\n{before}")
        project.run("--flops-budget-update").assert_outcomes(passed=1)
    project.write(f"import torch\nfrom torch import nn\n{definitions}\n{test}")
    result = project.run()
    result.assert_outcomes(failed=1)
    lines = result.outlines
    start = next(place for place, line in enumerate(lines) if line.startswith("____"))
    end = next(place for place, line in enumerate(lines) if "flops budgets ==" in line)
    return "".join(f"{line}\n" for line in lines[start + 1 : end])


ATTENTION = re.search(r"class Attention.*?@ v\)\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_shows_how_a_test_fails(project):
    ((test, text),) = [block for block in BLOCKS.findall(PAGE.read_text(encoding="utf-8")) if block[0].startswith(TEST)]
    shown = failure(project, ATTENTION[0], test)
    assert shown == text


def test_the_page_shows_what_a_law_means(project):
    page = PAGE.read_text(encoding="utf-8")
    ((test, _),) = [block for block in BLOCKS.findall(page) if block[0].startswith(TEST)]
    project.write(f"import torch\nfrom torch import nn\n{ATTENTION[0]}\n{test}")
    lines = project.run("--flops-budget-explain=test_net.py::test_attention").outlines
    shown = re.search(r"<!-- explained: begin -->\n\n```text\n(.*?)```", page, re.DOTALL)[1].splitlines()
    start = lines.index("growth")
    assert lines[start : start + len(shown)] == shown


def test_the_page_shows_how_a_law_regresses(project):
    blocks = BLOCKS.findall(PAGE.read_text(encoding="utf-8"))
    ((test, text),) = [block for block in blocks if block[0].startswith(REGRESSED)]
    now, before = re.search(r"self.out\((.*)\)    # before: (.*)\n", test).groups()
    assert failure(project, ATTENTION[0], test, test.replace(now, before, 1)) == text
    # Two products cost 4·d²·S before and 4·d·S² now, where d is 64: they are equal at S = 64.
    assert "less at S = 16, first more at S = 65" in text


def test_the_readme_shows_how_a_test_fails(project):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    test, text = next(block for block in BLOCKS.findall(readme) if "flops_budget.over" in block[0])
    assert len(test.splitlines()) <= 6
    # Attention costs 4·d·S² + 8·d²·S, and a linear layer 2·d²·S: the squares are more from S = 5/2·d + 1 on.
    assert "at sequence = 1,281" in text
    model = "model = nn.Sequential()\nmodel.attn, model.mlp = Attention(512), nn.Linear(512, 512)\n"
    assert failure(project, f"{ATTENTION[0]}\n{model}", test) == text


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of packages behind transformers
def test_the_page_shows_the_laws_of_known_models():
    """If this test fails because a law changed on purpose, run `make laws-page`."""
    pytest.importorskip("transformers")
    import laws_table

    assert f"{laws_table.BEGIN}\n\n{laws_table.table()}\n\n{laws_table.END}" in PAGE.read_text(encoding="utf-8")
