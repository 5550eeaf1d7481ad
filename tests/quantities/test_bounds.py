"""Limits as people write them: amounts, ranges, exact values, shares and warnings."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pytest_flopsbudget.quantities.bounds import Bounds, parse_bounds
from pytest_flopsbudget.quantities.metrics import METRICS

FLOPS, PARAMS, INTENSITY, TIME = (METRICS[key] for key in ("flops", "params", "arithmetic_intensity", "time"))


@pytest.mark.parametrize(
    ("value", "metric", "expected"),
    [
        ("8 GFLOPs", FLOPS, Bounds(maximum=8 * 10**9)),
        ("10 FLOPs/byte", INTENSITY, Bounds(minimum=Fraction(10))),
        ({"min": "24M", "max": "26M"}, PARAMS, Bounds(minimum=24 * 10**6, maximum=26 * 10**6)),
        ({"min": "24M"}, PARAMS, Bounds(minimum=24 * 10**6)),
        ({"max": "2 GMACs"}, FLOPS, Bounds(maximum=4 * 10**9)),
        ({"exactly": 173_408_256}, FLOPS, Bounds(minimum=173_408_256, maximum=173_408_256)),
        ({"warn": "20M", "max": "26M"}, PARAMS, Bounds(maximum=26 * 10**6, warning=20 * 10**6)),
        ({"warn": "20M"}, PARAMS, Bounds(warning=20 * 10**6)),
        ({"warn": 8, "min": 4}, INTENSITY, Bounds(minimum=Fraction(4), warning=Fraction(8))),
        ({"max": "40 FLOPs/byte"}, INTENSITY, Bounds(maximum=Fraction(40))),
        ({"at_most": 0.1, "of": "teacher"}, FLOPS, Bounds(maximum=Fraction(1, 10), share_of="teacher")),
        ({"at_most": "50%", "of": ""}, TIME, Bounds(maximum=Fraction(1, 2), share_of="")),
        (
            {"at_least": 1, "at_most": "150%", "of": "small"},
            PARAMS,
            Bounds(minimum=Fraction(1), maximum=Fraction(3, 2), share_of="small"),
        ),
        # A count is whole: at least 2.5 means at least 3, and at most 2.5 means at most 2.
        ({"min": "0.0025k", "max": "0.0035k"}, PARAMS, Bounds(minimum=3, maximum=3)),
    ],
)
def test_written(value, metric, expected):
    assert parse_bounds(value, metric) == expected


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({}, "sets no limit; write"),
        ({"of": "teacher"}, "sets no limit; write"),
        ({"maximum": 3}, "no such key 'maximum'; did you mean max?; write"),
        ({5: 3}, "no such key 5; write"),
        ({"exactly": 3, "max": 4}, "exactly and max do not go together"),
        ({"at_most": 0.5, "max": 4, "of": "a"}, "at_most and max and of do not go together"),
        ({"exactly": "0.5k", "warn": 1}, "exactly and warn do not go together"),
        ({"exactly": "0.0005k"}, "'0.0005k' is not whole, so no params can be exactly that"),
        ({"min": 5, "max": 4}, "min 5 is more than max 4"),
        ({"warn": 5, "max": 5}, "warn 5 never warns; write less than max 5"),
        ({"at_most": 0.5}, 'of is missing; write {at_most = 0.5, of = "teacher"}'),
        ({"at_most": 0.5, "of": 3}, "of 3 is not text"),
        ({"at_most": -0.5, "of": "a"}, "-0.5 is not a share of zero or more"),
        ({"at_most": True, "of": "a"}, "True is not a share of zero or more"),
        ({"at_most": float("nan"), "of": "a"}, "nan is not a share of zero or more"),
        ({"at_most": "half", "of": "a"}, "'half' is not a percentage"),
        ({"at_most": 0.5, "at_least": 0.6, "of": "a"}, "at_least 0.6 is more than at_most 0.5"),
        ({"max": "3 GB"}, "'3 GB'"),
        ({"max": -1}, "-1 is negative"),
        ([3], "is not an amount"),
    ],
)
def test_mistakes(value, told):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- the text is compared
        parse_bounds(value, PARAMS)
    assert told in str(caught.value)
