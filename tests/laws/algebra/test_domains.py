"""Sizes that two ranges share, against sets of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_flopsbudget.laws.algebra.domains import Domain, common_sizes, short_names

RANGES = st.builds(
    lambda start, step, count: range(start, start + step * count, step),
    st.integers(0, 40),
    st.integers(1, 12),
    st.integers(1, 20),
)


@given(RANGES, RANGES)
def test_common_sizes(one, other):
    assert set(common_sizes(one, other)) == set(one) & set(other)


@given(RANGES, RANGES, st.booleans(), st.booleans())
def test_common_domain(one, other, first_powers, second_powers):
    domains = [
        Domain((("n", sizes),), frozenset({"n"} if powers else ()))
        for sizes, powers in ((one, first_powers), (other, second_powers))
    ]
    expected = [n for n in range(500) if all(domain.contains({"n": n}) for domain in domains)]
    found = domains[0].common(domains[1])
    assert (list(found.sizes("n")) if found is not None else []) == expected


def test_domains_of_other_symbols_share_nothing():
    assert Domain((("n", range(1, 9)),)).common(Domain((("m", range(1, 9)),))) is None


def test_short_names():
    assert short_names(["sequence", "batch", "n"]) == {"sequence": "S", "batch": "B", "n": "n"}
    assert short_names(["width", "words"]) == {"width": "width", "words": "words"}
