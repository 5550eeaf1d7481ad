import subprocess
import sys

import pytest

import pytest_flopsbudget


def test_all():
    """What users may import, sorted."""
    assert pytest_flopsbudget.__all__ == sorted(
        [
            "BaselineError",
            "BudgetExceededError",
            "Complexity",
            "FlopsBudget",
            "Module",
            "Operator",
            "UnknownOperator",
            "UsageError",
            "measure",
        ]
    )


@pytest.mark.parametrize("name", pytest_flopsbudget.__all__)
def test_each_is_there(name):
    """Names are looked up when they are first used."""
    assert getattr(pytest_flopsbudget, name).__name__ == name


def test_no_other():
    with pytest.raises(AttributeError, match="no attribute 'measures'"):
        _ = pytest_flopsbudget.measures


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("pytest_flopsbudget", ["torch", "pytest", "msgspec", "rich"]),
        ("pytest_flopsbudget.counting.measure", ["pytest", "_pytest", "rich"]),
        ("pytest_flopsbudget.results.verdict", ["torch", "pytest", "_pytest"]),
        ("pytest_flopsbudget.ledger", ["torch", "pytest", "_pytest"]),
        ("pytest_flopsbudget.reports.terminal", ["torch", "pytest", "_pytest"]),
        ("pytest_flopsbudget.settings", ["torch", "pytest", "msgspec", "rich"]),
    ],
)
def test_what_each_storey_needs(module, without):
    """Counting needs torch but never pytest; results and reports need neither."""
    code = f"import sys, {module}; print(*(set({without}) & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
