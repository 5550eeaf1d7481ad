"""Laws as data and back."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import msgspec
import pytest
from build import complexity, laws
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopsbudget.laws.algebra.domains import Domain
from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw, Piece
from pytest_flopsbudget.laws.algebra.terms import Atom, Expression, constant, quotient, symbol_expression
from pytest_flopsbudget.results.law_data import MeasuredLaws, check_sizes, check_term, to_law
from pytest_flopsbudget.results.law_storing import store

SYMBOLS = ("sequence", "batch", "größe")
ATOMS = st.one_of(
    st.builds(Atom, st.sampled_from(SYMBOLS)),
    st.builds(Atom, st.sampled_from(SYMBOLS), st.sampled_from(["log", "ceil_log", "floor_log"])),
    st.builds(lambda symbol, divisor, shift: next(iter(quotient(symbol, divisor, shift).atoms())),
              st.sampled_from(SYMBOLS), st.integers(2, 20), st.integers(0, 19)),
)  # fmt: skip
MONOMIALS = st.dictionaries(ATOMS, st.integers(1, 4), max_size=3).map(lambda found: tuple(sorted(found.items())))
EXPRESSIONS = st.dictionaries(MONOMIALS, st.fractions().filter(bool), max_size=4).map(Expression)
DOMAIN = Domain(tuple((symbol, range(2, 65, step)) for symbol, step in zip(SYMBOLS, (1, 2, 31), strict=True)))


def law_of(*pieces, domain=DOMAIN, metric="flops"):
    return MetricLaw(metric, domain, tuple(Piece(*piece) for piece in pieces), letters={})


def measured(*, of_model, counted=(), **modules):
    return SimpleNamespace(
        modules={"": of_model, **{path.replace("_", "."): own for path, own in modules.items()}},
        domain=next(iter(of_model.values())).domain,
        counted=dict(counted),
        evidence="exact",
    )


def restored(stored):
    return msgspec.json.decode(msgspec.json.encode(stored), type=MeasuredLaws)


@given(EXPRESSIONS, EXPRESSIONS)
def test_expressions_come_back(one, other):
    first, second = DOMAIN.split("sequence", 5)
    for law in (law_of((DOMAIN, one)), law_of((first, one), (second, other))):
        stored = restored(store(measured(of_model={"flops": law}), ["flops"]))
        assert to_law("flops", stored.metrics["flops"], stored.sizes).pieces == law.pieces


def test_powers_of_two_and_single_sizes_come_back():
    powers = Domain((("n", range(16, 4097)),), frozenset({"n"}))
    whole = Domain((("n", range(16, 4097)),))
    n = symbol_expression("n")
    law = law_of((powers, n), (whole.with_range("n", range(17, 18)), n**2), domain=whole)
    stored = restored(store(measured(of_model={"flops": law}), ["flops"]))
    assert stored.law("flops").pieces == law.pieces
    assert stored.law("flops").letters == {"n": "n"}


def test_what_is_stored():
    n = symbol_expression("n")
    domain = Domain((("n", range(1, 9)),))
    metrics = {"flops": n.scaled(12) + constant(3), "macs": n.scaled(6), "params": constant(7), "peak_memory": n}
    of_model = {metric: law_of((domain, one), domain=domain, metric=metric) for metric, one in metrics.items()}
    counted = {(size,): complexity({"flops": 12 * size + 3, "params": 7, "peak_memory": size}) for size in (1, 8)}
    params = law_of((domain, constant(3)), domain=domain)
    leaf = {"flops": law_of((domain, n.scaled(4)), domain=domain), "params": params}
    parent = {"flops": law_of((domain, n.scaled(8)), domain=domain), "params": params}
    stored = store(
        measured(of_model=of_model, counted=counted, h=parent, h_0=leaf, h_1=leaf),
        ["flops", "params"],
    )
    # The model has 12n + 3, its block 8n, and the two leaves of the block 4n each: the block itself has nothing.
    assert {path: dict(law["flops"].pieces[0].terms) for path, law in stored.modules.items()} == {
        "": {"n": 4, "1": 3},
        "h.{0-1}": {"n": 4},
    }
    assert {metric: law.held for metric, law in stored.metrics.items()} == {
        "flops": True,
        "params": True,
        "peak_memory": False,
    }
    assert stored.counted == ((1,), (8,))
    assert stored.metrics["flops"].counts == (15, 99)
    assert stored.metrics["params"].counts == ()
    kept = stored.held()
    assert kept.metrics.keys() == {"flops", "params"}
    assert not kept.counted
    assert not kept.metrics["flops"].counts


@pytest.mark.parametrize(
    ("term", "coefficient", "message"),
    [
        ("n^2", 4, ""),
        ("m*ceil(n/16)^2", "1/2", ""),
        ("1", 3, ""),
        ("k^2", 4, "unknown name 'k'; there are n, m"),
        ("n^", 4, "expected"),
        ("", 4, "expected"),
        ("n + m", 4, "no single term; write one like n^2"),
        ("2*n", 4, "no single term"),
        ("max(n, m)", 4, "no single term"),
        ("m*n^2*n", 4, "another spelling of 'm*n^3'"),
        ("<= n", 4, "no single term"),
        ("n", 0, "a coefficient of 0; leave the term out"),
        ("n", "2/4", "write 1/2"),
        ("n", "4/1", "write 4"),
    ],
)
def test_terms_are_checked(term, coefficient, message):
    found = check_term(term, coefficient, ["n", "m"])
    assert message in found
    assert bool(found) == bool(message)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n": range(4, 65)}, ""),
        ({"n": range(4, 65, 3)}, ""),
        ({"m": range(4, 65)}, "sizes of m; the law is of n"),
        ({}, "sizes of nothing; the law is of n"),
        ({"n": range(1, 65)}, "n: 1 to 64 is not within 4 to 64"),
    ],
)
def test_sizes_are_checked(sizes, message):
    whole = laws({"n": range(4, 65)}, {}).sizes
    assert check_sizes(laws(sizes, {}).sizes, ["n"], whole) == message


def test_coefficients_are_exact():
    stored = laws({"n": range(1, 9)}, {"flops": {"n^2": "1/2", "n": "1/2"}})
    assert stored.law("flops").at(n=7) == 28
    assert stored.law("flops").expression.at({"n": 2}) == Fraction(3)
    assert stored.law("params") is None
