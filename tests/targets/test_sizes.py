"""Sizes with names, as texts. The command's tests have the messages."""

import pytest

from pytest_flopsbudget import UsageError
from pytest_flopsbudget.targets.sizes import parse_range, parse_sizes, symbols_in, widened, with_sizes


def test_symbols():
    assert symbols_in(["net:build({W}, {1, 2})", "{B}x3x{n}x{n}", '{"scale": {W}}']) == ["W", "B", "n"]
    assert with_sizes('{B}x3x{n}x{n} {"m": {other}}', {"B": 2, "n": 5}) == '2x3x5x5 {"m": {other}}'


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("1:8", range(1, 9)), ("0:2", range(3)), ("64:100:16", range(64, 101, 16)), (" 8:16 ", range(8, 17))],
)
def test_both_ends_are_included(text, sizes):
    assert parse_range("S", text) == sizes


@pytest.mark.parametrize("text", ["", "8", "8:", ":8", "8-16", "8:16:", "-8:16", "8:16:2:2", "8.0:16", f"1:{'9' * 13}"])
def test_no_range(text):
    with pytest.raises(UsageError, match="is no range of sizes; write --S 128:8192"):
        parse_range("S", text)


def test_points():
    assert parse_sizes("--at", "B=8, S=1024", ["B", "S"]) == {"B": 8, "S": 1024}


@pytest.mark.parametrize(
    ("size", "expected"), [(24, range(16, 65, 8)), (80, range(16, 81, 8)), (0, range(0, 65, 8)), (64, range(16, 65, 8))]
)
def test_ranges_are_extended(size, expected):
    assert widened("S", range(16, 65, 8), size) == expected


@pytest.mark.parametrize(("size", "near"), [(20, "16 and 24"), (3, "0 and 8"), (70, "64 and 72")])
def test_sizes_between_steps(size, near):
    with pytest.raises(UsageError, match=f"S={size}: the range has a step of 8, so the nearest sizes are {near}"):
        widened("S", range(16, 65, 8), size)
