"""Which test and which measurement the argument of --flops-budget-explain names."""

from __future__ import annotations

import pytest

from pytest_flopsbudget.plugin.explain import split_name

IDS = ["t.py::test_a", "t.py::test_a[x:y]", "t.py::test_a[x", "t.py::Test::test_b"]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("t.py::test_a", ("t.py::test_a", None)),
        ("t.py::test_a:student", ("t.py::test_a", "student")),
        ("t.py::test_a:a:b", ("t.py::test_a", "a:b")),
        ("t.py::test_a[x:y]", ("t.py::test_a[x:y]", None)),
        ("t.py::test_a[x:y]:z", ("t.py::test_a[x:y]", "z")),
        ("t.py::test_a[x:z", ("t.py::test_a[x", "z")),
        ("t.py::Test::test_b:model", ("t.py::Test::test_b", "model")),
        ("t.py::test_a:", ("t.py::test_a", "")),
        ("t.py::test_a::test_b", None),
        ("t.py::test_c", None),
        ("t.py::Test", None),
        ("", None),
    ],
)
def test_split_name(asked, meant):
    """The argument is the node id of a test, or "id:name" with the name of a measurement."""
    assert split_name(asked, IDS) == meant
