"""A printed result has the numbers that the text of a failing test has."""

from __future__ import annotations

import re

from budgets import budget
from build import complexity

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.reports.failure import explain
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.verdict import Measurement, judge


def module(kind, flops):
    return Module(type=kind, calls=1, metrics={"flops": flops, "params": 0})


def test_folded_siblings():
    """Both texts show the sum of the FLOPs of equal layers."""
    modules = {"": module("Net", 37), "head": module("Linear", 7)}
    for number in range(3):
        modules |= {f"layers.{number}": module("Layer", 10), f"layers.{number}.up": module("Linear", 10)}
    measured = complexity(modules[""].metrics, modules)
    failing = judge(
        Measurement(name="model", complexity=measured),
        [budget("marker", {"flops": 1})],
        Settings(),
        None,
        accepts=False,
    )
    text, table = explain("test_net", [failing]), measured.table()
    assert "  30 FLOPs  layers.{0-2}.up: Linear\n" in text
    assert "   7 FLOPs  head: Linear" in text
    assert re.search(r"layers\.\{0-2\} +Layer x3 +3 +30 ", table)
    assert re.search(r"up +Linear x3 +3 +30 ", table)
    assert re.search(r"head +Linear +1 +7 ", table)
