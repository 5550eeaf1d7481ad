"""What the package shows to the world."""

from __future__ import annotations

import sys

import pytest

import pytest_flopsbudget


def test_names():
    """These names, sorted, and no others."""
    assert pytest_flopsbudget.__all__ == [
        "BaselineError",
        "BudgetExceededError",
        "Call",
        "Complexity",
        "FlopsBudget",
        "Module",
        "Operator",
        "UnknownOperator",
        "UsageError",
        "flops_formula",
        "measure",
        "shape_only",
        "world",
    ]
    assert dir(pytest_flopsbudget) == pytest_flopsbudget.__all__


@pytest.mark.parametrize("name", pytest_flopsbudget.__all__)
def test_each_can_be_had(name):
    """Each is found on first use, and says where it comes from."""
    value = getattr(pytest_flopsbudget, name)
    assert value.__name__ == name
    assert value.__module__.startswith("pytest_flopsbudget.")
    assert value.__doc__


def test_star_import():
    names: dict[str, object] = {}
    exec("from pytest_flopsbudget import *", names)  # noqa: S102 -- the statement is under test
    assert set(pytest_flopsbudget.__all__) <= names.keys()


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'pytest_flopsbudget' has no attribute 'mesure'"):
        pytest_flopsbudget.mesure  # noqa: B018 -- looking it up is under test


def test_the_package_brings_nothing_heavy(pytester):
    """Importing it is part of every run of pytest."""
    code = "import sys, pytest_flopsbudget; print({'torch', 'msgspec', 'rich', 'pytest'} & sys.modules.keys())"
    result = pytester.run(sys.executable, "-c", code)
    assert result.outlines == ["set()"]
