"""Limits on laws, without a model: laws are made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_flopsbudget.config.reading import marker_budget
from pytest_flopsbudget.laws.algebra.domains import Domain
from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw, Piece
from pytest_flopsbudget.laws.algebra.terms import Atom, atom_expression, constant, quotient, symbol_expression
from pytest_flopsbudget.results.growth import check_growth, unproven_limits
from pytest_flopsbudget.results.limits import merge_budgets

S = symbol_expression("sequence")
LOG = atom_expression(Atom("sequence", "ceil_log"))
DOMAIN = Domain((("sequence", range(2, 1025)),))


def law(*expressions, metric="flops", places=()):
    domains, rest = [], DOMAIN
    for place in places:
        part, rest = rest.split("sequence", place)
        domains.append(part)
    pieces = tuple(Piece(part, one) for part, one in zip([*domains, rest], expressions, strict=True))
    return MetricLaw(metric, DOMAIN, pieces, letters={"sequence": "S"})


def laws(model, **modules):
    of_modules = {path.replace("_", "."): {"flops": one} for path, one in modules.items()}
    return SimpleNamespace(modules={"": {"flops": model}, **of_modules}, domain=DOMAIN)


def check(measured, *markers, **others):
    budgets = [marker_budget((), marker, f"marker {number}") for number, marker in enumerate(markers)]
    return check_growth(measured, budgets, merge_budgets(budgets), "model", **others)


def grows(order):
    return {"growth": {"sequence": order}}


@pytest.mark.parametrize(
    ("expression", "order"),
    [
        (constant(7), "1"),
        (LOG, "log n"),
        (S, "n"),
        (quotient("sequence", 16, 15), "n"),
        (S * LOG + S, "n log n"),
        (S**2 + S * LOG, "n^2"),
        (quotient("sequence", 16) ** 4, "n^4"),
    ],
)
def test_an_order_allows_itself_and_slower_growth(expression, order):
    orders = ["1", "log n", "n", "n log n", "n^2", "n^2 log n", "n^4"]
    for allowed in orders:
        assert bool(check(laws(law(expression)), grows(allowed))) == (orders.index(allowed) < orders.index(order))


def test_the_largest_sizes_count():
    assert not check(laws(law(S**2, S.scaled(100), places=(99,))), grows("n"))
    assert check(laws(law(S.scaled(100), S**2, places=(99,))), grows("n"))


def test_where_terms_overtake_the_rest():
    (found,) = check(laws(law(S**2 + S.scaled(100) - constant(50))), grows("n"))
    assert (found.leading, found.rest, found.measured) == ("S^2", "100*S - 50", "n^2")
    assert found.overtakes == 100  # 10,000 is more than 9,950; 9,801 is less than 9,850


def test_a_closer_marker_wins():
    assert not check(laws(law(S**2)), grows("n"), grows("n^2"))
    assert check(laws(law(S**2)), grows("n^2"), grows("n"))[0].source == "marker 1"


def test_equal_modules_are_named_together():
    measured = laws(law(S**2 * constant(2)), h=law(S**2 * constant(2)), h_0=law(S**2), h_1=law(S**2), h_1_mlp=law(S))
    (found,) = check(measured, {"modules": {"h.?": grows("n")}})
    assert (found.module, found.count) == ("h.*", 2)


@pytest.mark.parametrize(("limit", "point"), [(99, "S = 100"), (2, "S = 3"), (1, "S = 2"), (1024, None)])
def test_a_limit_for_every_size(limit, point):
    found = check(laws(law(S)), {"flops": limit})
    assert [item.point for item in found] == ([point] if point else [])


def test_a_limit_in_the_middle():
    hill = S.scaled(1000) - S**2
    assert check(laws(law(hill)), {"flops": 249_999})[0].point == "S = 500"
    assert not check(laws(law(hill)), {"flops": 250_000})


def test_no_law():
    none = MetricLaw("flops", DOMAIN, reason="no law of degree <= 4", letters={"sequence": "S"})
    (found,) = check(laws(none), grows("n"))
    assert (found.kind, found.reason) == ("unknown", "no law of degree <= 4")
    limits = merge_budgets([marker_budget((), {"flops": 3}, "marker")])
    (note,) = unproven_limits(laws(none), limits)
    assert note == "the limit on flops was checked at sequence = 1,024 only: no law of degree <= 4"


def test_without_laws():
    assert check(None, grows("n"))[0].kind == "unknown"
    assert not check(None, grows("n"), measured_elsewhere=True)
    assert not check(None, grows("n"), everywhere="marker 0")
    assert not check(None, {"flops": 3})


def test_a_limit_replaces_a_formula():
    assert check(laws(law(S)), {"flops": "2*S"})[0].kind == "formula"
    assert not check(laws(law(S)), {"flops": "2*S"}, {"flops": "1 k"})[1:]
