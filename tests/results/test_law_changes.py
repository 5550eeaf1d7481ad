"""Laws against those of a baseline, against a naive comparison at every size."""

from __future__ import annotations

from fractions import Fraction

import pytest
from build import laws
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pytest_flopsbudget.quantities.tolerance import Tolerance
from pytest_flopsbudget.results.law_changes import compare_laws
from pytest_flopsbudget.results.law_data import LawPiece, Sizes, StoredLaw

SIZES = {"n": range(4, 61)}
HELD = ("flops",)


def compared(old, new, tolerance=None, sizes=SIZES, new_sizes=None):
    before, now = laws(sizes, {"flops": old}), laws(new_sizes or sizes, {"flops": new})
    return compare_laws(before, now, {"flops": tolerance or Tolerance()}, HELD)


def value(terms, n):
    powers = {"n^2": n * n, "n": n, "1": 1, "ceil(n/7)": -(-n // 7)}
    return sum(coefficient * powers[term] for term, coefficient in terms.items())


TERMS = st.fixed_dictionaries(
    {"n^2": st.integers(0, 3), "n": st.integers(0, 90), "1": st.integers(0, 90), "ceil(n/7)": st.integers(0, 30)}
).map(lambda found: {term: number for term, number in found.items() if number})


@given(TERMS, TERMS, st.sampled_from([0, 5, 100]), st.sampled_from([Fraction(0), Fraction(1, 20), Fraction(1, 3)]))
def test_every_size_is_compared(old, new, absolute, relative):
    tolerance = Tolerance(relative=relative, absolute=absolute)
    found = compared(old, new, tolerance)
    pairs = {n: (value(old, n), value(new, n)) for n in SIZES["n"]}
    if all(before == now for before, now in pairs.values()):
        assert not found.changes
        return
    (change,) = found.changes

    def first(wanted):
        return next((f"n = {n}" for n, pair in pairs.items() if wanted(*pair)), None)

    assert change.allowed == all(tolerance.allows(*pair) for pair in pairs.values())
    assert (change.beyond and change.beyond.sizes) == first(lambda before, now: not tolerance.allows(before, now))
    assert (change.grows and change.grows.sizes) == first(lambda before, now: now > before)
    assert (change.shrinks and change.shrinks.sizes) == first(lambda before, now: now < before)
    assert (change.largest.old, change.largest.new) == pairs[60]


def test_where_laws_cross():
    # 2n² is more than 40n from n = 21 on.
    (change,) = compared({"n": 40}, {"n^2": 2}).changes
    assert (change.old, change.new, change.sizes) == ("40*n", "2*n^2", "n = 4 ... 60")
    assert (change.grows.sizes, change.grows.old, change.grows.new) == ("n = 21", 840, 882)
    assert change.shrinks.sizes == "n = 4"
    assert [(one.term, one.old, one.new, one.coefficients) for one in change.terms] == [
        ("n^2", "", "2*n^2", ("0", "2")),
        ("n", "40*n", "", ("40", "0")),
    ]


def test_other_ranges_are_compared_where_they_overlap():
    same = compared({"n": 40}, {"n": 40}, new_sizes={"n": range(20, 201)})
    assert (same.range_changed, same.changes) == (("n = 4 ... 60", "n = 20 ... 200"), ())
    assert same.judged == {"flops"}
    # Beyond n = 60, where the new law is larger, there is no old one.
    assert compared({"n": 60}, {"n^2": 1}, new_sizes={"n": range(20, 201)}).changes[0].grows is None
    apart = compared({"n": 40}, {"n": 41}, new_sizes={"n": range(100, 201)})
    assert not apart.judged
    assert not apart.changes
    assert apart.range_changed is not None


def test_pieces_are_compared_one_with_the_other():
    def cliff(place, after):
        sizes = [laws({"n": part}, {}).sizes for part in (range(4, place), range(place, 61))]
        return tuple(LawPiece(sizes=own, terms={"n": one}) for own, one in zip(sizes, (2, after), strict=True))

    assert not compared(cliff(30, 4), cliff(30, 4)).changes
    (moved,) = compared(cliff(30, 4), cliff(20, 4)).changes
    assert (moved.beyond.sizes, moved.beyond.old, moved.beyond.new) == ("n = 20", 40, 80)
    assert not moved.terms
    assert compared(cliff(30, 4), {"n": 4}).changes[0].beyond.sizes == "n = 4"
    assert not compared(cliff(30, 2), {"n": 2}).changes


def test_two_symbols():
    sizes = {"batch": range(1, 9), "n": range(4, 61)}
    (change,) = compared({"batch*n": 40}, {"batch*n^2": 2}, sizes=sizes).changes
    assert change.grows.sizes == "B = 1, n = 21"
    assert change.sizes == "B (batch) = 1 ... 8, n = 4 ... 60"


def test_too_large_for_a_proof():
    sizes = {"a": range(1, 10_001), "b": range(1, 10_001)}
    # (a - 1)·(10,000 - a) is 0 at every corner, and positive between them.
    hill = {"a": 10_001, "a^2": -1, "1": -10_000, "a*b": 40}
    (change,) = compared({"a*b": 40}, hill, sizes=sizes).changes
    assert "only their corners were compared" in change.reason
    assert change.allowed


def test_a_metric_without_a_law_is_compared_at_the_counts():
    old = laws(SIZES, {"flops": {"n": 40}})
    now = laws(SIZES, {})
    for counts, allowed in (((160, 2400), True), ((160, 2401), False)):
        law = StoredLaw(reason="no law of degree <= 4", counts=counts)
        measured = replace(now, metrics={"flops": law}, counted=((4,), (60,)))
        found = compare_laws(old, measured, {}, HELD)
        assert found.vanished == ("the law of flops",)
        assert [change.allowed for change in found.changes] == [allowed] * (not allowed)
    assert found.changes[0].beyond.sizes == "n = 60"
    assert found.changes[0].reason == "no law of degree <= 4"


def test_a_law_for_fewer_sizes_is_compared_at_the_counts_too():
    old = laws(SIZES, {"flops": {"n": 40}})
    powers = Sizes(first=4, last=60, powers_of_two=True)
    law = StoredLaw(pieces=(LawPiece(sizes={"n": powers}, terms={"n": 40}),), counts=(160, 2400))
    now = replace(laws(SIZES, {}), metrics={"flops": law}, counted=((4,), (60,)))
    same = compare_laws(old, now, {}, HELD)
    assert (same.vanished, same.changes) == (("a part of the law of flops",), ())
    more = replace(now, metrics={"flops": replace(law, counts=(160, 2401))})
    (change,) = compare_laws(old, more, {}, HELD).changes
    assert (change.beyond.sizes, change.largest.new) == ("n = 60", 2401)
    assert change.reason.startswith("the law holds for fewer sizes than before")


def test_missing_laws():
    old = laws(SIZES, {"flops": {"n": 40}, "params": {"1": 3}})
    assert compare_laws(None, old, {}, HELD).changes == ()
    assert compare_laws(old, None, {}, HELD).vanished == ("the growth law",)
    assert compare_laws(None, None, {}, HELD).vanished == ()
    # The baseline holds no parameters.
    assert not compare_laws(old, laws(SIZES, {"flops": {"n": 40}, "params": {"1": 4}}), {}, HELD).changes


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"h.{0-3}": {"n": 2}}, {"h.{0-3}": {"n": 4}}, [("h.*", 4, "2*n", "4*n")]),
        ({"h.{0-3}": {"n": 2}}, {"h.{0,2-3}": {"n": 2}, "h.1": {"n^2": 1}}, [("h.1", 1, "2*n", "n^2")]),
        ({"h.{0-1}.0": {"n": 2}}, {}, [("h.*.0", 2, "2*n", "")]),
        ({}, {"a": {"n": 2}, "b": {"n^2": 2}}, [("b", 1, "", "2*n^2"), ("a", 1, "", "2*n")]),
        ({"": {"n": 2}}, {"": {"n": 3}}, [("", 1, "2*n", "3*n")]),
    ],
)
def test_modules(old, new, expected):
    before, now = (
        laws(SIZES, {"flops": {"n": number}}, {path: {"flops": terms} for path, terms in modules.items()})
        for number, modules in ((1, old), (2, new))
    )
    (change,) = compare_laws(before, now, {}, HELD).changes
    assert [(one.path, one.count, one.old, one.new) for one in change.modules] == expected
