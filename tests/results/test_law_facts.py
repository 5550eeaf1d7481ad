"""What laws mean, against values that are computed one by one."""

from __future__ import annotations

from fractions import Fraction

import pytest
from build import laws, sizes_of
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopsbudget.results.law_data import LawPiece
from pytest_flopsbudget.results.law_facts import crossings, doublings


def law_of(terms, **sizes):
    return laws(sizes, {"flops": terms}).law("flops")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (range(16, 8193), [16, 4096]),
        (range(1, 9), [1, 4]),
        (range(9), [1, 4]),
        (range(64, 1025, 32), [64, 512]),
        (range(65, 1025, 32), []),
        (range(200, 301), []),
    ],
)
def test_which_sizes_are_doubled(sizes, expected):
    assert [one.size for one in doublings(law_of({"n": 3}, n=sizes), "n")] == expected


def test_what_doubling_costs():
    # 2n² + 30n is 320 at 5 and 1,000 at 10; doubling 20 costs 5,200 in place of 1,400.
    found = doublings(law_of({"n^2": 2, "n": 30}, n=range(5, 46)), "n")
    assert [one.factor for one in found] == [Fraction(500, 200), Fraction(2 * 44**2 + 30 * 44, 2 * 22**2 + 30 * 22)]


def test_other_symbols_have_their_largest_sizes():
    # At 8 batches: 8·n² + 100 is 108 for n = 1, and 132 for n = 2.
    (one, *_) = doublings(law_of({"batch*n^2": 1, "1": 100}, batch=range(1, 9), n=range(1, 65)), "n")
    assert one == (1, Fraction(132, 108))


def test_a_cliff_is_in_the_cost():
    parts = [LawPiece(sizes={"n": sizes_of(part)}, terms={"n": k}) for part, k in ((range(1, 5), 1), (range(5, 9), 10))]
    law = laws({"n": range(1, 9)}, {"flops": tuple(parts)}).law("flops")
    assert [one.factor for one in doublings(law, "n")] == [2, 20]


@given(st.integers(1, 9), st.integers(1, 400), st.integers(1, 4000))
def test_where_terms_overtake(square, line, constant):
    found = list(crossings(law_of({"n^2": square, "n": line, "1": constant}, n=range(2, 101)), "n"))
    for crossing, (faster, slower) in zip(
        found,
        ((lambda n: square * n * n, lambda n: line * n), (lambda n: line * n, lambda n: constant)),
        strict=True,
    ):
        size = next(n for n in range(2, 10_000) if faster(n) > slower(n))
        assert (crossing.size, crossing.always, crossing.in_range) == (size, size == 2, size <= 100)


def test_terms_that_grow_alike_are_one():
    (crossing,) = crossings(law_of({"ceil(n/4)": 8, "n": 1, "1": 30}, n=range(1, 101)), "n")
    assert (str(crossing.faster), str(crossing.slower)) == ("8·⌈n/4⌉ + n", "30")
    assert crossing.size == 9  # 9 + 8·3 is 33; 8 + 8·2 is 24


def test_no_law():
    law = laws({"n": range(1, 9)}, {"flops": ()}).law("flops")
    assert not doublings(law, "n")
    assert not list(crossings(law, "n"))
