"""Count GPT-2, and write the result to explain.md: ``cd docs && python -m explain_page``."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from pytest_flopsbudget import measure
from pytest_flopsbudget.config.settings import Budget, Settings
from pytest_flopsbudget.hardware.catalog import DEVICES
from pytest_flopsbudget.quantities.bounds import Bounds
from pytest_flopsbudget.reports.terminal import explain
from pytest_flopsbudget.reports.terminal.screen import Screen
from pytest_flopsbudget.results.verdict import Measurement, judge

PATH = Path(__file__).with_name("explain.md")
BEGIN, END = "<!-- page: begin -->", "<!-- page: end -->"
NODEID = "tests/test_gpt2.py::test_gpt2"

_DEVICE = DEVICES["A100"]
_SCREEN = Screen(width=80, colour=False, encoding="utf-8")


def explained() -> str:
    """Return the output of `--flops-budget-explain` for GPT-2 with 128 tokens on an A100."""
    with torch.device("meta"):
        model: torch.nn.Module = GPT2LMHeadModel(GPT2Config())
        tokens = torch.zeros(1, 128, dtype=torch.long)
    counted = measure(model.eval(), tokens, devices=[_DEVICE])
    budget = Budget(source="marker", limits={"flops": Bounds(maximum=40 * 10**9)})
    verdict = judge(Measurement(name="model", complexity=counted), [budget], Settings(), counted, accepts=False)
    return "\n".join(explain.explain_page(NODEID, verdict, [_DEVICE], _SCREEN))


def page(old: str) -> str:
    """Return the text ``old`` of the page, with its example replaced by the current output."""
    before, _, rest = old.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{PATH.name} lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n```text\n{explained()}\n```\n\n{END}{after}"


if __name__ == "__main__":
    PATH.write_text(page(PATH.read_text(encoding="utf-8")), encoding="utf-8")
