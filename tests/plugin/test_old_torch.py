"""With a PyTorch that is too old, the first measurement fails with one sentence."""

from __future__ import annotations

import pytest

#: PyTorch 2.5 and older have no `torch.compiler.set_stance`.
OLD = """
import torch
del torch.compiler.set_stance
torch.__version__ = "2.5.1"
"""
SENTENCE = (
    "pytest-flopsbudget needs PyTorch 2.6 or newer, and the installed PyTorch is 2.5.1: pip install --upgrade torch"
)


@pytest.mark.parametrize(
    "body",
    [
        "def test_net(flops_budget):\n    flops_budget(Net(), IMAGE)",
        "def test_net(flops_budget):\n    with flops_budget.watch():\n        Net()(IMAGE)",
        "@pytest.mark.flops_budget(flops=1)\ndef test_net():\n    Net()(IMAGE)",
    ],
    ids=["measured", "watched block", "watched test"],
)
def test_each_test_that_measures_fails_with_one_sentence(project, body):
    project.write(f"{body}\n\ndef test_other():\n    pass")
    project.path.joinpath("conftest.py").write_text(OLD, encoding="utf-8")
    run = project.run_apart_with_torch("-p", "no:asyncio")
    assert SENTENCE in run.stdout.str()
    assert "Traceback" not in run.stdout.str() + run.stderr.str()
    assert "in __getattr__" not in run.stdout.str()
    run.stdout.fnmatch_lines(["*1 passed*"])


def test_nothing_is_measured(project):
    project.write("def test_other():\n    pass")
    project.path.joinpath("conftest.py").write_text(OLD, encoding="utf-8")
    project.run_apart_with_torch("-p", "no:asyncio").assert_outcomes(passed=1)
