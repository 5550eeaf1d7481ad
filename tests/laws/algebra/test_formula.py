"""Formulas: their values, their expressions, and mistakes in them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopsbudget import UsageError
from pytest_flopsbudget.laws.algebra.formula import Formula, FormulaError
from pytest_flopsbudget.laws.algebra.terms import Atom, Expression, atom_expression, constant, quotient

SYMBOLS = {"S": "S", "B": "batch"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2*3", 7),
        ("(1 + 2)*3", 9),
        ("2^3^2", 512),
        ("2**3", 8),
        ("-2^2", -4),
        ("--3", 3),
        ("7 - 2 - 1", 4),
        ("12/2/3", 2),
        ("7/2", Fraction(7, 2)),
        ("ceil(7/2) + floor(7/2)", 7),
        ("floor(-1/2)", -1),
        ("log2(1024)", 10),
        ("log2(1/8)", -3),
        ("ceil(log2(1000)) + floor(log2(1000))", 19),
        ("min(3, 1, 2) + max(1_000, 2e3)", 2001),
        ("36,864*2 + 1", 73_729),
        ("2·3² \u00d7 2", 36),
        ("S*B + L", 2 * 3 + 5),
        ("== S", 2),
        ("0.5*S", 1),
    ],
)
def test_values(text, value):
    assert Formula(text, {"L": 5}).at({"S": 2, "B": 3}) == value


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ("", 0, "expected a number, a name or '\\(', not the end"),
        ("3 +", 3, "not the end"),
        (
            "3 GFLOPs",
            2,
            r"expected an operator, not 'GFLOPs'; write \* before a factor, and no units: 8 GFLOPs is 8\*10\^9",
        ),
        ("2*(3 + S", 2, "this parenthesis is not closed"),
        ("2*S)", 3, "expected an operator, not '\\)'"),
        ("foo(3)", 0, "no function 'foo'; there are ceil"),
        ("min(3)", 0, "min takes two arguments or more, not 1"),
        ("ceil(3, 4)", 0, "ceil takes one argument, not 2"),
        ("ceil 3", 5, "expected an operator, not '3'"),
        ("S % 2", 2, "'%' is no part of a formula"),
        ("S < 2", 2, "'<' is no part of a formula"),
        ("⌈S/2⌉", 0, "write ceil"),
        ("S;import os", 1, "';' is no part"),
        ("__import__('os')", 11, '"\'" is no part'),
        ("(" * 200 + "1" + ")" * 200, 100, "too many parentheses"),
        ("2" + "^2" * 200, None, "too many powers"),
        ("1 2", 2, "expected an operator"),
        ("12,34", 2, "expected an operator, not ','"),
    ],
)
def test_mistakes(text, place, why):
    with pytest.raises(FormulaError, match=why) as caught:
        Formula(text)
    if place is not None:
        assert caught.value.place == place
        *_, shown, mark = str(caught.value).split("\n")
        assert mark.index("^") - 4 == place
        assert shown == f"    {text}"


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ("1/(S - 2)", 1, "the divisor is 0"),
        ("2^(S/4)", 4, "an exponent is a whole number from 0 to 64, not 1/2"),
        ("2^100", 2, "not 100"),
        ("log2(S + 1)", 0, "log2 of 3 is not a whole number; write ceil"),
        ("1 + log2(0)", 4, "log2 of 0"),
        ("(9^64)^64", 6, "this power is too large"),
        ("1 + Q", 4, "the name 'Q' has no value"),
    ],
)
def test_mistakes_in_values(text, place, why):
    with pytest.raises(FormulaError, match=why) as caught:
        Formula(text).at({"S": 2})
    assert caught.value.place == place


def test_a_division_with_a_remainder():
    assert Formula("S/3*3").whole_at({"S": 10}) == 10
    with pytest.raises(UsageError, match=r"character 6: 10 / 3 leaves a remainder") as caught:
        Formula("1 + S/3 + S/2").whole_at({"S": 10})
    assert str(caught.value).endswith("    1 + S/3 + S/2\n         ^")


def test_unknown_names():
    formula = Formula("24*B*SS*L", {"L": 12})
    assert formula.names() == {"B": 3, "SS": 5}
    with pytest.raises(FormulaError, match=r"character 6: unknown name 'SS'; did you mean S\?"):
        formula.check_names(["B", "S"])
    with pytest.raises(FormulaError, match="unknown name 'B'; there are n, L"):
        formula.check_names(["n"])


S, B = atom_expression(Atom("S")), atom_expression(Atom("batch"))


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("24*B*S*L*d^2 + 4*B*S^2*L*d", B * S.scaled(24 * 12 * 768**2) + B * S**2 * constant(4 * 12 * 768)),
        ("(S + 1)^2 - 2*S", S**2 + constant(1)),
        ("S/2", S.scaled(Fraction(1, 2))),
        ("ceil(S/32)", quotient("S", 32, 31)),
        ("floor((S - 3)/2) + 1", quotient("S", 2, -1)),
        ("ceil(S/2 + 3/2)", quotient("S", 2, 4)),
        ("S*log2(S)", S * atom_expression(Atom("S", "log"))),
        ("ceil(log2(S))", atom_expression(Atom("S", "ceil_log"))),
        ("max(L, 3)*S", S.scaled(12)),
        ("ceil(S)", S),
        ("S - S", Expression()),
    ],
)
def test_expressions(text, expression):
    assert Formula(text, {"L": 12, "d": 768}).expression(SYMBOLS) == expression


@pytest.mark.parametrize("text", ["max(S, 3)", "S/B", "2^S", "ceil(S*B/2)", "ceil(2*S/3)", "log2(2*S)", "Q"])
def test_not_every_formula_is_an_expression(text):
    assert Formula(text).expression(SYMBOLS) is None


def test_relations():
    assert Formula("<= 3*S").relation == Formula("≤ 3*S").relation == "<="
    assert Formula("3*S").relation == Formula("== 3*S").relation == "=="


@given(st.text(alphabet="0123456789SB+-*/^()., ceilflomaxn²⌈", max_size=20))
def test_any_text_is_a_formula_or_a_mistake(text):
    try:
        value = Formula(text).at({"S": 3, "B": 2})
    except FormulaError as error:
        assert 0 <= error.place <= len(text)  # noqa: PT017 -- most texts are mistakes
    else:
        assert isinstance(value, Fraction)
