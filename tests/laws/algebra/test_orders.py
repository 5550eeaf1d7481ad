"""Orders of growth."""

from __future__ import annotations

import pytest

from pytest_flopsbudget.laws.algebra.orders import Order, parse_order


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("1", Order(0)),
        (1, Order(0)),
        ("n", Order(1)),
        ("O(n)", Order(1)),
        ("n log n", Order(1, 1)),
        ("n*log(n)", Order(1, 1)),
        ("O(n log n)", Order(1, 1)),
        ("log n", Order(0, 1)),
        ("n^2", Order(2)),
        ("n²", Order(2)),
        ("n**3", Order(3)),
        ("n^2 log n", Order(2, 1)),
        ("n log^2 n", Order(1, 2)),
    ],
)
def test_parsing(text, order):
    assert parse_order(text) == order


@pytest.mark.parametrize("text", ["", "m", "n^", "n n", "2n", "n^0", "log", None, True, 2, ["n"], "quadratic", "O()"])
def test_mistakes(text):
    with pytest.raises(ValueError, match='is no order of growth; write one like "1", "log n"'):
        parse_order(text)


def test_the_text_is_parsed_again():
    for powers in range(5):
        for logs in range(3):
            assert parse_order(str(Order(powers, logs))) == (powers, logs)


def test_slower_growth_is_less():
    assert sorted(map(parse_order, ["n^2", "n log n", "n", "1", "log n"])) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
