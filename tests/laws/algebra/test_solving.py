"""`solve` finds the sizes within a limit that trying every size finds too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopsbudget import UsageError
from pytest_flopsbudget.laws.algebra.domains import Domain
from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw, Piece
from pytest_flopsbudget.laws.algebra.solving import Limit, solve
from pytest_flopsbudget.laws.algebra.terms import Atom, atom_expression, constant, quotient

B, N = atom_expression(Atom("b")), atom_expression(Atom("n"))
SIZES = range(1, 61)


def law_of(*pieces, domain):
    return MetricLaw("flops", domain, tuple(Piece(part, expression) for part, expression in pieces))


coefficients = st.integers(-9, 9)


@given(
    numbers=st.tuples(coefficients, coefficients, coefficients),
    cut=st.integers(1, 59),
    step=st.integers(2, 9),
    limit=st.integers(0, 3000),
)
def test_is_what_trying_every_size_finds(numbers, cut, step, limit):
    a, b, c = numbers
    domain = Domain((("n", SIZES),))
    before, after = domain.split("n", cut)
    steps = quotient("n", step, step - 1).scaled(7)
    found = law_of(
        (before, (N**2).scaled(a) + steps + constant(100)), (after, N.scaled(b) + constant(c)), domain=domain
    )
    values = {n: found.at(n=n) for n in SIZES}
    solution = solve(found, Limit("flops", "n", limit, ""), {})
    assert solution.largest == max((n for n, value in values.items() if value <= limit), default=None)
    assert solution.first_too_large == min((n for n, value in values.items() if value > limit), default=None)
    assert all(values[n] == value for n, value in solution.values.items())


def test_other_sizes_are_fixed():
    domain = Domain((("b", SIZES), ("n", SIZES)))
    found = law_of((domain, B * N**2), domain=domain)
    assert solve(found, Limit("flops", "b", 99, ""), {"n": 3}).largest == 11
    assert solve(found, Limit("flops", "n", 99, ""), {"b": 11}).largest == 3
    assert solve(found, Limit("flops", "n", 0, ""), {"b": 11}).largest is None


def test_a_law_for_some_sizes_only_is_refused():
    domain = Domain((("n", SIZES),))
    some = Domain(domain.ranges, frozenset({"n"}))
    found = law_of((some, N * atom_expression(Atom("n", "log"))), domain=domain)
    with pytest.raises(UsageError, match=r"flops: the law holds for some sizes of n only: n = 1, 2 \.\.\. 32: "):
        solve(found, Limit("flops", "n", 9, ""), {})
    with pytest.raises(UsageError, match="flops: none"):
        solve(MetricLaw("flops", domain, reason="none"), Limit("flops", "n", 9, ""), {})
