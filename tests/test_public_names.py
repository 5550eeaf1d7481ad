"""The public names of the package."""

from __future__ import annotations

import re
import sys
from fractions import Fraction

import pytest
from paths import ROOT

import pytest_flopsbudget
from pytest_flopsbudget.quantities.metrics import METRICS, STORED


def test_names():
    assert pytest_flopsbudget.__all__ == [
        "BaselineError",
        "BudgetExceededError",
        "Call",
        "Complexity",
        "ComplexityDiff",
        "Device",
        "FlopsBudget",
        "Latency",
        "Law",
        "Measurement",
        "MetricLaw",
        "Module",
        "Operator",
        "Phase",
        "Serving",
        "TrainingFlops",
        "TrainingRun",
        "UnknownOperator",
        "UsageError",
        "Verdict",
        "compare",
        "flops_formula",
        "law",
        "measure",
        "serving",
        "shape_only",
        "time_model",
        "training_flops",
        "training_run",
        "watch",
        "world",
    ]
    assert dir(pytest_flopsbudget) == pytest_flopsbudget.__all__


@pytest.mark.parametrize("name", pytest_flopsbudget.__all__)
def test_each_can_be_had(name):
    value = getattr(pytest_flopsbudget, name)
    assert value.__name__ == name
    assert value.__module__.startswith("pytest_flopsbudget.")
    assert value.__doc__


def test_star_import():
    names: dict[str, object] = {}
    exec("from pytest_flopsbudget import *", names)  # noqa: S102 -- this tests the statement
    assert set(pytest_flopsbudget.__all__) <= names.keys()


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'pytest_flopsbudget' has no attribute 'mesure'"):
        pytest_flopsbudget.mesure  # noqa: B018 -- this tests the access


def test_the_package_brings_nothing_heavy(pytester):
    code = "import sys, pytest_flopsbudget; print({'torch', 'msgspec', 'rich', 'pytest'} & sys.modules.keys())"
    result = pytester.run(sys.executable, "-c", code)
    assert result.outlines == ["set()"]


def test_the_docs_import_from_nowhere_else():
    root = ROOT
    pages = [root / "README.md", *(root / "docs").glob("**/*.md")]
    assert len(pages) > 15
    found = [
        f"{page.name}: {line.strip()}"
        for page in pages
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.search(r"\b(?:from|import) pytest_flopsbudget\.", line)
    ]
    assert found == []


def test_every_metric_is_an_attribute():
    """Each metric is an attribute of a measurement, except metrics with a value for each device."""
    keys = [key for key, metric in METRICS.items() if metric.per != "device"]
    metrics = dict.fromkeys((*STORED, "latency[box]"), 6)
    measured = pytest_flopsbudget.Complexity(
        model="Net",
        inputs=(),
        execution="shapes",
        metrics=metrics,
        modules={"": _module(metrics)},
        timing=pytest_flopsbudget.Latency(machine="box", median_ns=6, q1_ns=5, q3_ns=7, runs=9, threads=1),
    )
    assert {key: getattr(measured, key) for key in keys} == {key: measured.value(key) for key in keys}
    assert all(isinstance(getattr(measured, key), (int, Fraction)) for key in keys)


def _module(metrics):
    return pytest_flopsbudget.Module(type="Net", calls=1, metrics=metrics)
