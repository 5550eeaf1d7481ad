"""Limits on growth and formulas in markers."""

from __future__ import annotations

import pytest

from pytest_flopsbudget.config.reading import marker_budget
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.bounds import Bounds


def marked(**kwargs):
    return marker_budget((), kwargs, "marker")


def test_growth():
    budget = marked(
        growth={"sequence": "n log n", "batch": "n", "peak_memory": {"depth": 1}, "depth": "n"},
        modules={"attn*": {"growth": {"sequence": "n^2"}, "flops": "1G"}, "mlp": {"growth": {"sequence": "n"}}},
    )
    assert budget.growth == {
        "flops": {"sequence": (1, 1), "batch": (1, 0), "depth": (1, 0)},
        "peak_memory": {"depth": (0, 0)},
    }
    assert budget.module_growth == {"attn*": {"flops": {"sequence": (2, 0)}}, "mlp": {"flops": {"sequence": (1, 0)}}}
    assert list(budget.modules) == ["attn*"]


def test_formulas():
    budget = marked(
        flops="24*L*d^2", params="<= d*(d + 1)", other_flops="2*S*d", macs="1 GMACs", where={"L": 12, "d": 768}
    )
    assert budget.limits["flops"] == Bounds(minimum=24 * 12 * 768**2, maximum=24 * 12 * 768**2)
    assert budget.limits["params"] == Bounds(maximum=768 * 769)
    assert budget.limits["macs"] == Bounds(maximum=10**9)
    assert {key: one.text for key, one in budget.formulas.items()} == {"other_flops": "2*S*d"}
    assert marked(flops="L", where={"L": 12}).limits["flops"].maximum == 12


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"growth": "n"}, 'marker: growth: \'n\' is not a table of orders by size; write {"sequence": "n"}'),
        ({"growth": {}}, "marker: growth: {} is not a table of orders"),
        ({"growth": {"sequence": "m"}}, "marker: growth.sequence: 'm' is no order of growth; write one like"),
        ({"growth": {"flop": {"s": "n"}}}, "marker: growth.flop: no such key; did you mean flops"),
        ({"growth": {"a b": "n"}}, 'marker: growth."a b": is no name of a size'),
        ({"growth": {"arithmetic_intensity": {"s": "n"}}}, "growth.arithmetic_intensity: has no law of its growth"),
        ({"modules": {"a": {"growth": {"s": "x"}}}}, "marker: modules.a.growth.s: 'x' is no order of growth"),
        ({"phases": {"backward": {"growth": {"s": "n"}}}}, "marker: phases.backward.growth: no such key"),
        ({"flops": "24*(B"}, "marker: flops: formula, character 4: this parenthesis is not closed"),
        ({"flops": "d/5*1", "where": {"d": 8}}, "marker: flops: formula, character 2: 8 / 5 leaves a remainder"),
        ({"flops": "d*Q", "where": {"d": 1.5}}, "marker: where.d: 1.5 is not a whole number of 0 or more"),
        ({"flops": "1G", "where": {"d": 8}}, "marker: where: gives values to names of formulas, and no limit"),
        ({"flops": "d*2", "where": []}, "marker: where: [] is not a table of values by name"),
        ({"flops": "-d*2", "where": {"d": 8}}, "its value -16 is out of range"),
        ({"latency": "2*d", "where": {"d": 8}}, "marker: latency: is a ratio or a time, which no formula gives"),
        ({"growt": {"s": "n"}}, "marker: growt: no such key; did you mean growth"),
    ],
)
def test_mistakes(table, message):
    with pytest.raises(UsageError) as caught:
        marked(**table)
    assert message in str(caught.value)
