"""Expressions of symbols."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pytest_flopsbudget.laws.algebra.terms import (
    Atom,
    NotExactError,
    atom_expression,
    constant,
    quotient,
    symbol_expression,
)

B, S = symbol_expression("batch"), symbol_expression("S")
LETTERS = {"batch": "B"}


@pytest.mark.parametrize(
    ("expression", "signs", "plain"),
    [
        (constant(0), "0", "0"),
        (constant(-3), "-3", "-3"),
        (S**2 * constant(36864) + S * constant(1024), "36,864·S² + 1,024·S", "36,864*S^2 + 1,024*S"),
        (S - S**2 * B, "-B·S² + S", "-B*S^2 + S"),
        (S.scaled(Fraction(1, 3)) - constant(1), "1/3·S - 1", "1/3*S - 1"),
        (quotient("S", 32, 31) ** 2, "⌈S/32⌉²", "ceil(S/32)^2"),
        (quotient("S", 32), "⌊S/32⌋", "floor(S/32)"),
        (quotient("S", 32, 5), "⌊(S + 5)/32⌋", "floor((S + 5)/32)"),
        (quotient("S", 32, -1), "⌈S/32⌉ - 1", "ceil(S/32) - 1"),
        (S * atom_expression(Atom("S", "log")), "S·log₂S", "S*log2(S)"),
        (atom_expression(Atom("S", "log")) ** 2, "(log₂S)²", "log2(S)^2"),
        (S * atom_expression(Atom("S", "ceil_log")), "S·⌈log₂S⌉", "S*ceil(log2(S))"),
    ],
)
def test_text(expression, signs, plain):
    assert expression.text(LETTERS) == signs
    assert expression.text(LETTERS, signs=False) == plain


def test_arithmetic():
    assert (S + B) * (S - B) == S**2 - B**2
    assert not S - S
    assert ((S + constant(1)) ** 3).at({"S": 4}) == 125
    assert (S**2).substitute(Atom("S"), B + constant(2)) == B**2 + B.scaled(4) + constant(4)
    assert (S**2 * B).fixed("S", 3) == B.scaled(9)


@pytest.mark.parametrize(("size", "up", "down"), [(1, 0, 0), (2, 1, 1), (3, 2, 1), (4, 2, 2), (1025, 11, 10)])
def test_rounded_logarithms(size, up, down):
    assert Atom("n", "ceil_log").value(size) == up
    assert Atom("n", "floor_log").value(size) == down


def test_a_logarithm_is_exact_or_refused():
    assert Atom("n", "log").value(1024) == 10
    with pytest.raises(NotExactError):
        Atom("n", "log").value(1000)
    with pytest.raises(NotExactError):
        Atom("n", "ceil_log").value(0)


def test_orders():
    law = S**2 * B + S**2 * atom_expression(Atom("S", "log")) + S**3 * constant(0)
    assert law.orders("S") == (2, 1)
    assert law.orders("batch") == (1, 0)
    assert (quotient("S", 4) ** 2).orders("S") == (2, 0)


def test_terms_that_cancel_do_not_grow():
    # The last part of S tokens in parts of 64 has S - 64·⌊S/64⌋ tokens, fewer than 64.
    last = S - quotient("S", 64).scaled(64)
    assert last.orders("S") == (0, 0)
    assert (last**2 + quotient("S", 64).scaled(64**2)).orders("S") == (1, 0)
    assert (S * last).orders("S") == (1, 0)
