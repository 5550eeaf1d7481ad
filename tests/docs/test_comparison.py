"""Tests of docs/comparison."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import pytest
import torch
from features import need
from paths import DOCS

from pytest_flopsbudget.counting.measure import measure

sys.path.append(str(DOCS))

from comparison.cases import CASES, KNOWN_MISCOUNTS, WHOLE_MODELS
from peers.counters import COUNTERS, raised
from peers.isolation import Ended
from peers.table import between_markers
from peers.verdict import in_words

PAGE = (DOCS / "comparison.md").read_text()
EXACT, ROUGH = CASES["`torch.mv`"], CASES["LSTM on the CPU"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised by TorchScript's compiler
@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_the_closed_form_is_what_is_counted_here(case):
    if "_grouped_mm" in case.name:
        need("torch._grouped_mm on the CPU")
    with torch.device("meta") if case in WHOLE_MODELS else nullcontext():
        model, args = case.build()
    with case.surroundings():
        counted = measure(model.eval(), args, backward=case.backward)
    assert counted[case.module].flops == case.flops


def test_published_numbers():
    """The formulas give the numbers in torchvision's table of models."""
    flops = {case.name: case.flops for case in WHOLE_MODELS}
    assert flops["ResNet-50, 224×224"] / 2e9 == pytest.approx(4.089, abs=0.0005)  # noqa: RUF001 -- as in the table
    assert flops["ViT-B/16, 224×224"] / 2e9 == pytest.approx(17.564, abs=0.0005)  # noqa: RUF001 -- as in the table


@pytest.mark.parametrize(
    ("case", "ended", "words"),
    [
        (EXACT, Ended(2400.0, "", ""), "right"),
        (EXACT, Ended(2401.0, "", ""), "×1.000"),  # noqa: RUF001 -- as in the table
        (EXACT, Ended(1200.0, "", ""), "×0.50"),  # noqa: RUF001 -- as in the table
        (EXACT, Ended(24.0, "", "FutureWarning: use another"), "×0.010"),  # noqa: RUF001 -- as in the table
        (EXACT, Ended(0.0, "", ""), "0"),
        (EXACT, Ended(0.0, "", "Unsupported operator aten::mv encountered 1 time(s)"), "0 (w)"),
        (ROUGH, Ended(ROUGH.flops * 1.019, "", ""), "right"),
        (ROUGH, Ended(ROUGH.flops * 1.021, "", ""), "×1.021"),  # noqa: RUF001 -- as in the table
        (ROUGH, Ended(ROUGH.flops * 0.999, "", ""), "×0.999"),  # noqa: RUF001 -- as in the table
        (EXACT, Ended(None, "TypeError", ""), "raises TypeError"),
        (EXACT, Ended(None, "RefusedError", "the following exception: \n<class 'a.b.Wrong'>: no"), "raises Wrong"),
        (EXACT, Ended(None, "crash", ""), "crash"),
    ],
)
def test_a_number_in_words(case, ended, words):
    assert in_words(ended, case) == words


def test_an_exception_that_is_printed():
    assert raised("Flops estimation was not finished: \n<class 'KeyError'>: 'x'\n") == "KeyError"
    assert not raised("[WARN] Cannot find rule for <class 'torch.nn.Linear'>.")


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_the_page_shows_every_case(case):
    """docs/comparison.md has a row for each case. If this test fails, measure the new case."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if case.name in line]
    verdicts = next(row for row in rows if len(row) == 1 + len(COUNTERS))
    assert verdicts[0] == case.name
    assert verdicts[1] == "right"
    assert any(row[1] == f"{case.flops:,}" for row in rows)


def test_the_page_shows_every_counter():
    for name, counter in COUNTERS.items():
        assert f"| {name} | {counter.package} " in PAGE


def test_what_was_measured_replaces_what_stood_there():
    page = "a\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nz"
    assert between_markers(page, "new") == "a\n<!-- measured: begin -->\n\nnew\n\n<!-- measured: end -->\nz"
    with pytest.raises(ValueError, match="lacks"):
        between_markers("a", "new")


def test_names_are_unique():
    assert len(CASES) == len(KNOWN_MISCOUNTS) + len(WHOLE_MODELS)
