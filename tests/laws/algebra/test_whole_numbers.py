"""Where expressions are positive, compared with trying every size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_flopsbudget.laws.algebra.domains import Domain
from pytest_flopsbudget.laws.algebra.terms import (
    Atom,
    Expression,
    atom_expression,
    constant,
    quotient,
    symbol_expression,
)
from pytest_flopsbudget.laws.algebra.whole_numbers import first_above, first_positive, is_zero, positive_sizes

n = symbol_expression("n")
log = atom_expression(Atom("n", "ceil_log"))
factors = st.sampled_from([constant(1), n, n**2, n**3, quotient("n", 3), quotient("n", 4, 3) ** 2, log, n * log])
terms = st.lists(st.tuples(factors, st.integers(-300, 300)), max_size=5)


def total(parts):
    return sum((factor.scaled(number) for factor, number in parts), Expression())


@given(terms, st.integers(1, 40), st.integers(1, 60), st.integers(1, 5))
def test_like_trying_every_size(parts, start, length, step):
    expression, sizes = total(parts), range(start, start + length, step)
    expected = [size for size in sizes if expression.at({"n": size}) > 0]
    assert sorted(size for part in positive_sizes(expression, "n", sizes) for size in part) == expected
    assert first_positive(expression, "n", sizes) == min(expected, default=None)


def test_two_cubic_humps():
    humps = (n - constant(10)) * (n - constant(20)) * (n - constant(1_000_000))
    assert list(positive_sizes(humps, "n", range(1, 10**9))) == [range(11, 20), range(1_000_001, 10**9)]


def test_several_symbols():
    b = symbol_expression("b")
    domain = Domain((("b", range(2, 9)), ("n", range(4, 99))))
    assert first_above(b * n.scaled(8), n * n * b, domain) == {"b": 2, "n": 4}  # 64 is more than 32
    assert first_above(b * n.scaled(4), n * n * b, domain) is None
    assert first_above(b * n, n.scaled(7), domain) == {"b": 8, "n": 4}


def test_zero_on_a_domain():
    domain = Domain((("n", range(10, 100)),))
    assert is_zero(quotient("n", 2) + quotient("n", 2, 1) - n, domain)
    assert not is_zero(quotient("n", 2) - quotient("n", 2, 1), domain)
    few = (n - constant(10)) * (n - constant(11))
    assert is_zero(few, Domain((("n", range(10, 12)),)))
    assert not is_zero(few, domain)
