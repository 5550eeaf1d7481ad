"""Compare laws with formulas."""

from __future__ import annotations

import pytest

from pytest_flopsbudget import UsageError
from pytest_flopsbudget.laws.algebra.comparing import compare_law
from pytest_flopsbudget.laws.algebra.domains import Domain
from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw, Piece
from pytest_flopsbudget.laws.algebra.terms import Atom, atom_expression, constant, quotient, symbol_expression

S, B = symbol_expression("sequence"), symbol_expression("batch")
LETTERS = {"sequence": "S", "batch": "B"}
ONE = Domain((("sequence", range(16, 4097)),))
TWO = Domain((("batch", range(1, 65)), ("sequence", range(16, 4097))))


def law(*pieces, domain=ONE):
    parts = pieces if isinstance(pieces[0], Piece) else (Piece(domain, *pieces),)
    return MetricLaw("flops", domain, tuple(parts), letters=LETTERS)


SQUARE = law(S**2 * constant(4) + S.scaled(100))


@pytest.mark.parametrize(
    ("measured", "formula", "where"),
    [
        (SQUARE, "4*S^2 + 100*S", {}),
        (SQUARE, "4*sequence*(S + 25)", {}),
        (SQUARE, "4*S*L*(S/L + 25/L)", {"L": 3}),
        (SQUARE, "<= 11*S^2", {}),
        (SQUARE, "<= 4*S^2 + 409600", {}),
        (law(quotient("sequence", 4, 3)), "ceil(S/4)", {}),
        (law(quotient("sequence", 4, 3)), "floor((S + 3)/4)", {}),
        (law(quotient("sequence", 2) + quotient("sequence", 2, 1)), "S", {}),
        (law(atom_expression(Atom("sequence", "ceil_log"))), "ceil(log2(S))", {}),
        (law(S), "max(S, 16)", {}),
        (law(S), "<= max(2*S, 3000)", {}),
        (law(S * B, domain=TWO), "B*S", {}),
        (law(S * B, domain=TWO), "<= 64*S", {}),
        (law(*(Piece(part, S) for part in ONE.split("sequence", 9))), "S", {}),
    ],
)
def test_it_holds(measured, formula, where):
    found = compare_law(measured, formula, where)
    assert found
    assert found.counterexample is None


@pytest.mark.parametrize(
    ("measured", "formula", "point"),
    [
        (SQUARE, "4*S^2", {"sequence": 16}),
        (SQUARE, "<= 5*S^2 + 10", {"sequence": 16}),
        (SQUARE, "<= 3*S^2 + 1000*S", {"sequence": 901}),  # S^2 > 900 S
        (law(S), "min(S, 1000)", {"sequence": 1001}),
        (law(quotient("sequence", 4, 3)), "floor(S/4)", {"sequence": 17}),
        (law(S * B, domain=TWO), "S", {"batch": 2, "sequence": 16}),
        (law(S * B, domain=TWO), "<= 63*S", {"batch": 64, "sequence": 16}),
    ],
)
def test_it_does_not_hold(measured, formula, point):
    found = compare_law(measured, formula)
    assert not found
    assert found.counterexample is not None
    assert found.counterexample[0] == point


def test_the_text_names_the_modules_of_the_difference():
    def part(expression):
        return {"flops": law(expression)}

    modules = {
        "": part(S**2 * constant(8) + S.scaled(120)),
        "h.0": part(S**2 * constant(4) + S.scaled(60)),
        "h.0.attn": part(S**2 * constant(4)),
        "h.0.mlp": part(S.scaled(60)),
        "h.1": part(S**2 * constant(4) + S.scaled(60)),
        "h.1.attn": part(S**2 * constant(4)),
        "h.1.mlp": part(S.scaled(60)),
    }
    found = compare_law(modules[""]["flops"], "L*S*60", {"L": 2}, modules)
    assert str(found).split("\n") == [
        "flops is not L*S*60, where L = 2",
        "    counted:    8·S² + 120·S",
        "    formula:    120·S",
        "    difference: 8·S²",
        "    at S = 16: counted 3,968, formula 1,920",
        "    in h.*.attn: 4·S² each",
    ]


@pytest.mark.parametrize(
    ("formula", "where", "message"),
    [
        ("4*Q", {}, "character 3: unknown name 'Q'; there are sequence, S"),
        ("4*S", {"S": 3}, "where gives S a value, and S is a size of the law"),
        ("4*", {}, "character 3: expected a number"),
    ],
)
def test_mistakes(formula, where, message):
    with pytest.raises(UsageError, match=message):
        compare_law(SQUARE, formula, where)


def test_no_law_cannot_be_compared():
    with pytest.raises(UsageError, match="flops: no law, so it cannot be compared with S"):
        compare_law(MetricLaw("flops", ONE, reason="no law", letters=LETTERS), "S")
