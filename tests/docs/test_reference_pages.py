"""The pages of the site that are made from the code name everything that they are about."""

from __future__ import annotations

import re
import sys

import pytest
from paths import DOCS

import pytest_flopsbudget
from pytest_flopsbudget.counting.costs.registry import REGISTRY
from pytest_flopsbudget.quantities.metrics import METRICS

sys.path.append(str(DOCS))

import reference_pages

FIRST_CELL = re.compile(r"^\| `(.*?)` \|", re.MULTILINE)


def test_api():
    named = re.findall(r"^\.\. auto\w+:: pytest_flopsbudget\.(\w+)$", reference_pages.api(), re.MULTILINE)
    assert sorted(named) == sorted(pytest_flopsbudget.__all__)


def test_metrics():
    assert FIRST_CELL.findall(reference_pages.metrics()) == list(METRICS)


class TestOperators:
    PAGE = reference_pages.operators().replace(r"\_", "_")

    def test_every_formula_and_every_free_operator(self):
        expected = {name for name, facets in REGISTRY.items() if facets.flops or facets.other or facets.free}
        listed = re.findall(r"^\| (\S+\.\S+) \|", self.PAGE, re.MULTILINE)
        assert len(listed) == len(set(listed))
        # Tests register operators of their own, whose formulas are not in costs/.
        assert {name for name in expected if name.startswith("aten.")} <= set(listed) <= expected

    @pytest.mark.parametrize("operator", ["aten.mm", "aten.convolution", "aten.gelu", "aten.native_batch_norm"])
    def test_a_family_has_its_source(self, operator):
        (family,) = re.findall(rf"^\| {operator} .*\(operators/(\w+)\.md\) \|$", self.PAGE, re.MULTILINE)
        page = dict(reference_pages.families())[f"operators/{family}.md"]
        assert operator in FIRST_CELL.findall(page)
        (source,) = re.findall(r"literalinclude\} (\S+)", page)
        assert (reference_pages.FOLDER / "operators" / source).resolve().name == f"{family}.py"
