"""With a PyTorch that is too old, the first measurement fails with one sentence."""

from __future__ import annotations

import re

#: PyTorch 2.5 and older have no `torch.compiler.set_stance`.
OLD = """
import torch
del torch.compiler.set_stance
torch.__version__ = "2.5.1"
"""
SENTENCE = (
    "pytest-flopsbudget needs PyTorch 2.6 or newer, and the installed PyTorch is 2.5.1: pip install --upgrade torch"
)


#: Three ways to measure, and a test that measures nothing.
TESTS = """
def test_measured(flops_budget):
    flops_budget(Net(), IMAGE)

def test_watched_block(flops_budget):
    with flops_budget.watch():
        Net()(IMAGE)

@pytest.mark.flops_budget(flops=1)
def test_watched():
    Net()(IMAGE)

def test_other():
    pass
"""


def test_each_test_that_measures_fails_with_one_sentence(project):
    project.write(TESTS)
    project.path.joinpath("conftest.py").write_text(OLD, encoding="utf-8")
    run = project.run_apart_with_torch("-p", "no:asyncio")
    run.assert_outcomes(failed=3, passed=1)
    for name in ("test_measured", "test_watched_block", "test_watched"):
        section = re.search(rf"^_+ {name} _+\n(.*?)^[_=]{{3}}", run.stdout.str(), re.MULTILINE | re.DOTALL)
        assert section is not None
        assert section[1].count(SENTENCE) == 1
    assert "Traceback" not in run.stdout.str() + run.stderr.str()
    assert "in __getattr__" not in run.stdout.str()


def test_nothing_is_measured(project):
    project.write("def test_other():\n    pass")
    project.path.joinpath("conftest.py").write_text(OLD, encoding="utf-8")
    project.run_apart_with_torch("-p", "no:asyncio").assert_outcomes(passed=1)
