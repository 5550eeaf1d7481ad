from fractions import Fraction

import pytest

from pytest_flopsbudget.quantities.metrics import METRICS
from pytest_flopsbudget.reports.terminal.chart import chart, sparkline
from pytest_flopsbudget.reports.terminal.screen import Screen

PARAMS = METRICS["params"]


def screen(width=60, encoding="utf-8"):
    return Screen(width=width, colour=False, encoding=encoding)


def drawn(values, width=60, encoding="utf-8"):
    dates = ["2026-01-01"] + [""] * (len(values) - 2) + ["2026-02-01"] if len(values) > 1 else ["2026-01-01"]
    return chart(values, dates, PARAMS, screen(width, encoding))


class TestChart:
    def test_a_rise_and_a_fall(self):
        # Each of the three values has 8 columns. 10 is in the first of seven rows, 7 in the middle, and 4 in the last.
        assert drawn([4, 10, 7]) == [
            "10 ┤        ╭───────╮",
            "   ┤        │       │",
            "   ┤        │       │",
            " 7 ┤        │       ╰───────",
            "   ┤        │",
            "   ┤        │",
            " 4 ┤────────╯",
            "    2026-01-01    2026-02-01",
        ]

    def test_where_only_ascii_can_be_shown(self):
        assert drawn([4, 10, 7], encoding="ascii") == [
            "10 |        .-------.",
            "   |        |       |",
            "   |        |       |",
            " 7 |        |       '-------",
            "   |        |",
            "   |        |",
            " 4 |--------'",
            "    2026-01-01    2026-02-01",
        ]

    def test_values_that_never_changed_are_a_line(self):
        assert drawn([4, 4, 4]) == ["4 ┤────────────────────────", "   2026-01-01    2026-02-01"]

    def test_one_value_has_one_date(self):
        assert drawn([4]) == ["4 ┤────────", "   2026-01-01"]

    @pytest.mark.parametrize("width", [40, 80, 120])
    @pytest.mark.parametrize("count", [2, 9, 40, 500])
    def test_it_fits_the_screen(self, width, count):
        lines = drawn(list(range(1_000, 1_000 + count)), width)
        assert max(map(len, lines)) <= width
        assert len(lines) == 8

    def test_of_more_than_fit_the_newest_are_drawn(self):
        # 20 - 2 - 2 = 16 columns. The last column is the rise to 10; the fall from 99 is left out.
        values = [99] * 50 + [7] * 20 + [10]
        lines = chart(values, [str(number) for number in range(71)], PARAMS, screen(20))
        assert lines[0] == "10 ┤               ╭"
        assert lines[-1] == "    55            70"

    def test_numbers_that_read_alike_are_written_out(self):
        lines = drawn([1_000_000_000, 1_000_000_002])
        assert lines[0].split()[0] == "1,000,000,002"
        assert lines[6].split()[0] == "1,000,000,000"

    def test_numbers_beyond_floats(self):
        big = 2**80
        assert [line[-1] for line in drawn([big, big + 1])[:7]][::6] == ["─", "╯"]


class TestSparkline:
    def test_eight_heights(self):
        assert sparkline(range(8), screen(), 8) == "▁▂▃▄▅▆▇█"

    def test_where_only_ascii_can_be_shown(self):
        assert sparkline(range(8), screen(encoding="ascii"), 8) == ".:-=+*#@"

    def test_the_newest_are_shown(self):
        assert sparkline([5, 0, 7], screen(), 2) == "▁█"

    def test_what_never_changed_is_low(self):
        assert sparkline([7, 7], screen(), 8) == "▁▁"


def test_ratios():
    """The label between 0.5 and 1 on the axis is 0.75."""
    row = METRICS["arithmetic_intensity"]
    found = chart([Fraction(1, 2), 1], ["2026-01-01", "2026-01-02"], row, screen())
    assert [line.split()[0] for line in found if "FLOPs/byte" in line] == ["1", "0.75", "0.5"]
