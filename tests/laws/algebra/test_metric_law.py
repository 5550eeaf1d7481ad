"""The law of one metric: its pieces, values and text."""

from __future__ import annotations

from pytest_flopsbudget.laws.algebra.domains import Domain
from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw, Piece, merged, sum_of
from pytest_flopsbudget.laws.algebra.terms import constant, symbol_expression

n, b = symbol_expression("n"), symbol_expression("b")


def domain(*sizes):
    return Domain((("n", range(*sizes)),))


def test_neighbours_of_one_expression_are_merged():
    parts = [Piece(domain(1, 5), n), Piece(domain(9, 20), n**2), Piece(domain(5, 9), n)]
    assert merged(parts, ["n"]) == (Piece(domain(1, 9), n), Piece(domain(9, 20), n**2))


def test_a_piece_of_one_size_joins_a_neighbour_with_the_value():
    whole = Domain((("b", range(1, 9)), ("n", range(3, 9))))
    alone, rest = whole.split("b", 1)
    assert merged([Piece(alone, n), Piece(rest, n * b)], whole.symbols) == (Piece(whole, n * b),)
    assert len(merged([Piece(alone, n + constant(1)), Piece(rest, n * b)], whole.symbols)) == 2


def test_remainders_are_not_merged_with_each_other():
    residues = domain(3, 30).residues("n", 3)
    parts = [Piece(part, constant(place)) for place, part in enumerate(residues)]
    law = MetricLaw("flops", domain(3, 30), tuple(parts))
    assert merged(parts, ["n"]) == tuple(parts)
    assert [law.at(n=size) for size in (3, 4, 5, 6, 29)] == [0, 1, 2, 0, 2]
    assert law.last_pieces("n") == parts


def test_many_pieces_are_shortened():
    parts = tuple(Piece(domain(size, size + 1), constant(size)) for size in range(1, 9))
    text = MetricLaw("flops", domain(1, 9), parts).text(signs=False)
    assert text == "n = 1: 1; n = 2: 2; n = 3: 3; 4 more pieces; n = 8: 8"


def test_sums():
    whole = domain(1, 9)
    one = MetricLaw("flops", whole, (Piece(whole, n),))
    two = MetricLaw("flops", whole, tuple(Piece(part, constant(7)) for part in whole.split("n", 4)))
    total = sum_of([(two, 2), (one, -1)], "flops", whole)
    assert [total.at(n=size) for size in (1, 8)] == [13, 6]
    assert sum_of([(one, 1), (MetricLaw("flops", whole, reason="no law"), 1)], "flops", whole) is None
