"""Parsing and formatting of quantities."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_flopsbudget.quantities.formatting import (
    format_delta,
    format_exact,
    format_pair,
    format_percent,
    format_value,
)
from pytest_flopsbudget.quantities.metrics import METRICS, Metric
from pytest_flopsbudget.quantities.parsing import (
    is_ratio,
    nearest_spelling,
    parse_exactly,
    parse_percent,
    parse_quantity,
    parse_tolerance,
    quote_value,
)
from pytest_flopsbudget.quantities.tolerance import Tolerance

FLOPS, MACS, PARAMS, BYTES = (METRICS[key] for key in ("flops", "macs", "params", "param_bytes"))

#: Metrics with the units of ratios and times. The tests do not depend on the table of metrics for these.
TIME = Metric("time", "time", "ns", "sum", "a time")
INTENSITY = Metric("intensity", "intensity", "FLOPs/byte", "sum", "work over bytes")
PARALLELISM = Metric("parallelism", "parallelism", "FLOPs/step", "sum", "work over steps")

metrics = st.sampled_from([*METRICS.values(), TIME, INTENSITY, PARALLELISM])
amounts = st.integers(min_value=0, max_value=10**21)
ratio_metrics = st.sampled_from([INTENSITY, PARALLELISM])
ratios = st.fractions(min_value=0, max_value=10**15, max_denominator=10**15)


class TestParseQuantity:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("8.2 GFLOPs", 8_200_000_000),
            ("8.2GFLOPs", 8_200_000_000),
            ("8.2 G FLOPs", 8_200_000_000),
            ("1.7G", 1_700_000_000),
            ("1 FLOP", 1),
            ("4.1 GMACs", 8_200_000_000),
            ("3 MAC", 6),
            ("2 kFLOPs", 2_000),
            ("2 KFLOPs", 2_000),
            ("2 TFLOPs", 2 * 10**12),
            ("2 PFLOPs", 2 * 10**15),
            ("2 EFLOPs", 2 * 10**18),
            ("2E", 2 * 10**18),
            ("2e9", 2 * 10**9),
            ("2e-3 GFLOPs", 2_000_000),
            ("+5", 5),
            ("8,178,368,512 FLOPs", 8_178_368_512),
            (" 12 ", 12),
        ],
    )
    def test_reads_flops(self, text, expected):
        assert parse_quantity(text, FLOPS) == expected

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("4.1 GMACs", 4_100_000_000), ("8.2 GFLOPs", 4_100_000_000), ("4.1G", 4_100_000_000), ("7 FLOPs", 3)],
    )
    def test_reads_macs(self, text, expected):
        """An amount of FLOPs is read as half as many MACs."""
        assert parse_quantity(text, MACS) == expected

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("25.6M", 25_600_000),
            ("25_600_000", 25_600_000),
            ("25,600,000", 25_600_000),
            ("8B", 8_000_000_000),
            ("8 B params", 8_000_000_000),
            ("25.6 M params", 25_600_000),
            ("25.6M parameters", 25_600_000),
            ("512 params", 512),
        ],
    )
    def test_reads_counts(self, text, expected):
        assert parse_quantity(text, PARAMS) == expected

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("96 MiB", 96 * 2**20),
            ("96 MB", 96_000_000),
            ("12 kB", 12_000),
            ("12 KB", 12_000),
            ("12 KiB", 12 * 1024),
            ("1.5 GB", 1_500_000_000),
            ("1.5 GiB", 3 * 2**29),
            ("2 TiB", 2**41),
            ("2 TB", 2 * 10**12),
            ("100 B", 100),
            ("100 bytes", 100),
            ("1 byte", 1),
            ("100", 100),
        ],
    )
    def test_reads_bytes(self, text, expected):
        """Units of bytes are powers of 1000 or of 1024."""
        assert parse_quantity(text, BYTES) == expected

    @pytest.mark.parametrize(("value", "expected"), [(0, 0), (2**80, 2**80), (8.2e9, 8_200_000_000)])
    def test_takes_whole_numbers(self, value, expected):
        assert parse_quantity(value, FLOPS) == expected

    @pytest.mark.parametrize(
        ("text", "expected"), [("0.1234567 kFLOPs", 123), ("0.9 FLOPs", 0), ("1.0009 kFLOPs", 1_000)]
    )
    def test_rounds_down(self, text, expected):
        """A fraction of a FLOP is dropped."""
        assert parse_quantity(text, FLOPS) == expected

    def test_is_exact(self):
        assert parse_quantity("0.3 EFLOPs", FLOPS) == 300_000_000_000_000_000

    @pytest.mark.parametrize("text", ["8.2 GFLOPS", "8.2 GFLOPs/s", "8.2 gflop/s", "8.2 GFLOPs per second", "8.2 TOPS"])
    def test_refuses_rates(self, text):
        """FLOPs per second are refused, and the error says to write the same number as an amount of FLOPs."""
        with pytest.raises(
            ValueError, match=r"is a rate, FLOPs per second, and a budget is an amount of work: write \"8\.2 "
        ):
            parse_quantity(text, FLOPS)

    def test_a_refused_rate_keeps_its_word_and_prefix(self):
        """MACs per second are refused, and the error shows an amount of MACs."""
        with pytest.raises(ValueError, match=r'write "3 TMACs"$'):
            parse_quantity("3 TMACs/s", FLOPS)

    @pytest.mark.parametrize(
        ("text", "metric", "nearest"),
        [
            ("2 gflops", FLOPS, "2 GFLOPs"),
            ("2 GFlops", FLOPS, "2 GFLOPs"),
            ("2 GMACS", FLOPS, "2 GMACs"),
            ("2 mb", BYTES, "2 MB"),
            ("2 MBxyz", BYTES, "2 MB"),
            ("2 Mparam", PARAMS, "2 Mparams"),
        ],
    )
    def test_names_the_nearest_spelling(self, text, metric, nearest):
        with pytest.raises(ValueError, match=f'{text}.*did you mean "{nearest}"') as caught:
            parse_quantity(text, metric)
        assert "Allowed: " in str(caught.value)

    @pytest.mark.parametrize(("text", "choices"), [("96M", '"96 MB" or "96 MiB"'), ("96k", '"96 kB" or "96 KiB"')])
    def test_refuses_ambiguous_bytes(self, text, choices):
        """If an amount of bytes has only a prefix, the error shows both possible units."""
        with pytest.raises(ValueError, match=choices):
            parse_quantity(text, BYTES)

    @pytest.mark.parametrize(
        ("text", "metric", "kind"),
        [
            ("25 MB", PARAMS, "is in bytes, which does not fit params"),
            ("25 GFLOPs", PARAMS, "is in FLOPs, which does not fit params"),
            ("25 Mparams", FLOPS, "is a count, which does not fit flops"),
            ("25 MACs", BYTES, "is in FLOPs, which does not fit param_bytes"),
        ],
    )
    def test_refuses_another_metrics_unit(self, text, metric, kind):
        with pytest.raises(ValueError, match=f"'{text}' {kind}; write \""):
            parse_quantity(text, metric)

    def test_refuses_a_comma_that_may_be_decimal(self):
        with pytest.raises(ValueError, match=r'"8178 GFLOPs" or "8\.178 GFLOPs"'):
            parse_quantity("8,178 GFLOPs", FLOPS)

    @pytest.mark.parametrize(
        "value",
        ["", " ", "GFLOPs", "8,2 GFLOPs", "1..2", "0x10", "1__0", "nan", "inf", "9" * 5000, True, None, [1], {}],
    )
    def test_refuses_what_is_no_amount(self, value):
        with pytest.raises(ValueError, match=r"write \"8\.2 GFLOPs\" or \"4\.1 GMACs\""):
            parse_quantity(value, FLOPS)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_refuses_numbers_without_end(self, value):
        with pytest.raises(ValueError, match="is not an amount"):
            parse_quantity(value, FLOPS)

    @pytest.mark.parametrize("value", [-1, -0.5, "-1", "-1 GFLOPs"])
    def test_refuses_less_than_nothing(self, value):
        with pytest.raises(ValueError, match=r"is negative; write zero or more"):
            parse_quantity(value, FLOPS)

    @pytest.mark.parametrize("value", [8.2, "8.2"])
    def test_refuses_a_fraction_without_a_unit(self, value):
        with pytest.raises(ValueError, match="has no unit and is not whole"):
            parse_quantity(value, FLOPS)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("3 ms", 3_000_000),
            ("400 us", 400_000),
            ("400 \N{MICRO SIGN}s", 400_000),
            ("400 \N{GREEK SMALL LETTER MU}s", 400_000),
            ("1.2 s", 1_200_000_000),
            ("1.2s", 1_200_000_000),
            ("850 ns", 850),
            ("1,850 ns", 1_850),
            ("0.3 us", 300),
            ("1.9 ns", 1),
            ("2e-3 s", 2_000_000),
            (0, 0),
            ("0", 0),
        ],
    )
    def test_reads_times(self, text, expected):
        assert parse_quantity(text, TIME) == expected

    @pytest.mark.parametrize("value", [3, 3.5, "3", "3.5", "3k", "3M"])
    def test_refuses_times_without_a_unit(self, value):
        with pytest.raises(ValueError, match=f'{value}\'? has no unit of time; write "3 ms" or "400 us"'):
            parse_quantity(value, TIME)

    @pytest.mark.parametrize("text", ["2 min", "2 h", "2 Ms", "2 MS", "2 sec", "2 ks", "2 m"])
    def test_refuses_other_units_of_time(self, text):
        with pytest.raises(ValueError, match=f"'{text}': unknown unit .*Allowed: s, ms, us, ns"):
            parse_quantity(text, TIME)

    def test_refuses_a_time_with_a_comma_that_may_be_decimal(self):
        with pytest.raises(ValueError, match=r'"1500 us" or "1\.500 us"'):
            parse_quantity("1,500 us", TIME)

    @given(value=amounts, metric=metrics)
    def test_reads_back_the_exact_form(self, value, metric):
        assert value == parse_quantity(format_exact(value, metric), metric)

    @given(value=amounts, metric=metrics)
    def test_reads_back_the_short_form(self, value, metric):
        """If a value is formatted and read again, it changes by at most 0.05%."""
        # Bytes may be one less, because they are rounded down.
        read = parse_quantity(format_value(value, metric), metric)
        assert abs(read - value) <= Fraction(value, 2000) + (1 if metric.unit == "bytes" else 0)

    @given(text=st.text(), metric=metrics)
    def test_refuses_text_without_a_digit(self, text, metric):
        letters = re.sub("[0-9]", "", text)
        with pytest.raises(ValueError, match=r"is not an amount; write"):
            parse_quantity(letters, metric)

    @given(digits=st.from_regex(r"\A[0-9]{1,3}\Z"), unit=st.text(st.characters(categories=["L"]), min_size=1))
    def test_takes_no_unit_that_it_does_not_know(self, digits, unit):
        assume(not re.fullmatch("[kKMGTPE]?(FLOPs?|MACs?)?", unit))
        with pytest.raises(ValueError, match=re.escape(repr(digits + unit))):
            parse_quantity(digits + unit, FLOPS)


class TestParseRatio:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (10, 10),
            (0.1, Fraction(1, 10)),
            ("0.5", Fraction(1, 2)),
            ("10 FLOPs/B", 10),
            ("10 FLOPs/byte", 10),
            ("10 FLOP / byte", 10),
            ("4 MACs/byte", 8),
            ("1.25 kFLOPs/B", 1_250),
            ("2e-3", Fraction(1, 500)),
        ],
    )
    def test_reads_flops_a_byte(self, value, expected):
        assert parse_exactly(value, INTENSITY) == expected

    @pytest.mark.parametrize(("value", "expected"), [("1.2k FLOPs/step", 1_200), ("3M", 3_000_000), (7, 7)])
    def test_reads_flops_a_step(self, value, expected):
        assert parse_exactly(value, PARALLELISM) == expected

    @pytest.mark.parametrize(
        ("value", "metric"),
        [
            ("10 FLOPs/step", INTENSITY),
            ("10 FLOPs/byte", PARALLELISM),
            ("10 FLOPs", INTENSITY),
            ("10 MB", INTENSITY),
            (-1, INTENSITY),
            ("much", PARALLELISM),
            (None, PARALLELISM),
            (float("nan"), INTENSITY),
        ],
    )
    def test_refuses_anything_else(self, value, metric):
        with pytest.raises(ValueError, match=r"write|did you mean"):
            parse_exactly(value, metric)

    def test_only_ratios_are_ratios(self):
        assert [is_ratio(metric) for metric in (INTENSITY, PARALLELISM, TIME, FLOPS)] == [True, True, False, False]

    @given(value=ratios, metric=ratio_metrics)
    def test_reads_back_the_short_form(self, value, metric):
        assert abs(parse_exactly(format_value(value, metric), metric) - value) <= value / 2000


class TestParsePercent:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [("1%", Fraction(1, 100)), ("0.5 %", Fraction(1, 200)), ("0%", 0), ("150%", Fraction(3, 2))],
    )
    def test_reads_a_share(self, text, expected):
        assert parse_percent(text) == expected

    @pytest.mark.parametrize("value", ["-1%", "%", "1", "1,000%", "1%%", "1% more", 1, None, "1" * 5000 + "%"])
    def test_refuses_anything_else(self, value):
        with pytest.raises(ValueError, match='write it like "1%"'):
            parse_percent(value)


class TestParseTolerance:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("1%", Tolerance(relative=Fraction(1, 100))),
            ("0%", Tolerance()),
            (0, Tolerance()),
            (100, Tolerance(absolute=100)),
            ("5 MFLOPs", Tolerance(absolute=5_000_000)),
            ("5 MMACs", Tolerance(absolute=10_000_000)),
            ({"relative": "2 %"}, Tolerance(relative=Fraction(1, 50))),
            ({"absolute": "5M"}, Tolerance(absolute=5_000_000)),
            ({"relative": "1%", "absolute": "5M"}, Tolerance(Fraction(1, 100), 5_000_000)),
        ],
    )
    def test_reads_shares_and_amounts(self, value, expected):
        """A tolerance is a percentage, an amount, or both."""
        assert parse_tolerance(value, FLOPS) == expected

    @pytest.mark.parametrize("value", [0.01, -1, True, None, "much", "25 MB"])
    def test_refuses_what_is_neither(self, value):
        with pytest.raises(ValueError, match='or a share like "1%"'):
            parse_tolerance(value, FLOPS)

    @pytest.mark.parametrize("value", [{}, {"percent": 1}, {"relative": 1}, {"absolute": "1%"}])
    def test_refuses_other_tables(self, value):
        with pytest.raises(ValueError, match=r"write|Allowed"):
            parse_tolerance(value, FLOPS)


class TestTolerance:
    @pytest.mark.parametrize(
        ("tolerance", "new", "passes"),
        [
            (Tolerance(), 1_000, True),
            (Tolerance(), 1_001, False),
            (Tolerance(), 0, True),
            (Tolerance(relative=Fraction(1, 100)), 1_010, True),
            (Tolerance(relative=Fraction(1, 100)), 1_011, False),
            (Tolerance(absolute=20), 1_020, True),
            (Tolerance(absolute=20), 1_021, False),
            (Tolerance(Fraction(1, 100), 20), 1_020, True),
            (Tolerance(Fraction(3, 100), 20), 1_030, True),
            (Tolerance(Fraction(3, 100), 20), 1_031, False),
        ],
    )
    def test_allows_the_larger_of_the_two(self, tolerance, new, passes):
        assert tolerance.allows(1_000, new) is passes

    def test_is_exact_beyond_floats(self):
        # 1% of 10^20 is allowed, and 1 more is not.
        tolerance = Tolerance(relative=Fraction(1, 100))
        assert tolerance.allows(10**20, 10**20 + 10**18)
        assert not tolerance.allows(10**20, 10**20 + 10**18 + 1)


class TestFormatValue:
    @pytest.mark.parametrize(
        ("value", "metric", "expected"),
        [
            (8_178_368_512, FLOPS, "8.178 GFLOPs"),
            (4_089_184_256, MACS, "4.089 GMACs"),
            (25_557_032, PARAMS, "25.56 M"),
            (102_228_128, BYTES, "97.49 MiB"),
            (0, FLOPS, "0 FLOPs"),
            (512, PARAMS, "512"),
            (999, PARAMS, "999"),
            (1_000, PARAMS, "1 k"),
            (8_200_000_000, FLOPS, "8.2 GFLOPs"),
            (8_200_000_001, FLOPS, "8.200 GFLOPs"),
            (100 * 2**20, BYTES, "100 MiB"),
            (1_023, BYTES, "1023 B"),
            (1_024, BYTES, "1 KiB"),
            (1_023 * 1024, BYTES, "1023 KiB"),
            (850, TIME, "850 ns"),
            (812_500, TIME, "812.5 us"),
            (3_214_159, TIME, "3.214 ms"),
            (1_200_000_000, TIME, "1.2 s"),
            (7_200 * 10**9, TIME, "7200 s"),
            (Fraction(49, 6), INTENSITY, "8.167 FLOPs/byte"),
            (Fraction(1, 12), INTENSITY, "0.08333 FLOPs/byte"),
            (Fraction(1, 10), INTENSITY, "0.1 FLOPs/byte"),
            (Fraction(99_999, 100_000), INTENSITY, "1.000 FLOPs/byte"),
            (Fraction(0), INTENSITY, "0 FLOPs/byte"),
            (Fraction(1_200), PARALLELISM, "1.2 kFLOPs/step"),
        ],
    )
    def test_shows_four_digits(self, value, metric, expected):
        assert format_value(value, metric) == expected

    @pytest.mark.parametrize(
        ("value", "metric", "expected"),
        [
            (999_949_999, PARAMS, "999.9 M"),
            (999_950_000, PARAMS, "1.000 G"),
            (999_999, PARAMS, "1.000 M"),
            (9_999_600, PARAMS, "10.00 M"),
            (2**20 - 1, BYTES, "1.000 MiB"),
            (2**20 - 400, BYTES, "1.000 MiB"),
            (999_950, TIME, "1.000 ms"),
        ],
    )
    def test_rounds_into_the_next_prefix(self, value, metric, expected):
        assert format_value(value, metric) == expected

    def test_has_no_prefix_after_the_last(self):
        assert format_value(12_345 * 10**18, FLOPS) == "12345 EFLOPs"

    @given(value=amounts, metric=metrics)
    def test_is_short_ascii(self, value, metric):
        # Times from 9,999 s on have more digits.
        assume(metric.unit != "ns" or value < 9_999 * 10**9)
        text = format_value(value, metric)
        assert text.isascii()
        assert sum(character.isdigit() for character in text) <= 4


class TestFormatExact:
    @pytest.mark.parametrize(
        ("value", "metric", "expected"),
        [
            (8_178_368_512, FLOPS, "8,178,368,512 FLOPs"),
            (25_557_032, PARAMS, "25,557,032"),
            (102_228_128, BYTES, "102,228,128 B"),
            (0, MACS, "0 MACs"),
            (3_214_159, TIME, "3,214,159 ns"),
            (Fraction(8_000), INTENSITY, "8,000 FLOPs/byte"),
            (Fraction(2_500, 3), INTENSITY, "2,500/3 FLOPs/byte"),
        ],
    )
    def test_shows_every_digit(self, value, metric, expected):
        assert format_exact(value, metric) == expected


class TestFormatPair:
    def test_is_short_where_that_tells_apart(self):
        assert format_pair(1_000_000, 2_000_000, FLOPS) == ("1 MFLOPs", "2 MFLOPs")

    def test_is_exact_where_short_forms_agree(self):
        assert format_pair(8_178_368_512, 8_178_368_513, FLOPS) == ("8,178,368,512 FLOPs", "8,178,368,513 FLOPs")

    @pytest.mark.parametrize(
        ("a", "b", "expected"),
        [
            (163_842, 163_851, ("163.842 k", "163.851 k")),
            (163_842, 163_892, ("163.84 k", "163.89 k")),
            (99_996, 100_004, ("99.996 k", "100.004 k")),
            (25_557_032, 25_557_096, ("25,557,032", "25,557,096")),
        ],
    )
    def test_shows_the_difference(self, a, b, expected):
        """If four digits show a difference that is wrong by more than a tenth, `format_pair` shows more digits."""
        assert format_pair(a, b, PARAMS) == expected

    def test_differ_in_zeros_only(self):
        """If the short forms differ only in trailing zeros, `format_pair` returns the exact forms."""
        assert format_pair(8_200_000_001, 8_200_000_000, FLOPS) == ("8,200,000,001 FLOPs", "8,200,000,000 FLOPs")
        assert format_pair(10_000_001, 10_000_000, FLOPS) == ("10,000,001 FLOPs", "10,000,000 FLOPs")

    def test_ratios_have_as_many_digits_as_it_takes(self):
        """`format_pair` adds digits to two ratios until their texts differ."""
        below = Fraction(9_999_999, 1_000_000)
        assert format_pair(below, Fraction(10), INTENSITY) == ("9.999999 FLOPs/byte", "10 FLOPs/byte")
        third = Fraction(1, 3)
        assert format_pair(third, Fraction(33_333, 100_000), INTENSITY) == ("0.333333 FLOPs/byte", "0.33333 FLOPs/byte")

    @given(a=ratios, b=ratios, metric=ratio_metrics)
    def test_never_prints_different_ratios_alike(self, a, b, metric):
        first, second = format_pair(a, b, metric)
        assert (first == second) is (a == b)

    def test_times_are_exact_where_short_forms_agree(self):
        assert format_pair(3_214_159, 3_214_160, TIME) == ("3,214,159 ns", "3,214,160 ns")

    def test_equal_values_stay_short(self):
        assert format_pair(8_178_368_512, 8_178_368_512, FLOPS) == ("8.178 GFLOPs", "8.178 GFLOPs")

    @given(a=amounts, b=amounts, metric=metrics)
    def test_never_prints_different_values_alike(self, a, b, metric):
        first, second = format_pair(a, b, metric)
        assert (first == second) is (a == b)


class TestFormatDelta:
    @pytest.mark.parametrize(
        ("delta", "metric", "expected"),
        [
            (411_041_792, FLOPS, "+411.0 MFLOPs"),
            (-3_000_000, PARAMS, "-3 M"),
            (0, FLOPS, "0 FLOPs"),
            (-1, BYTES, "-1 B"),
        ],
    )
    def test_shows_the_sign(self, delta, metric, expected):
        assert format_delta(delta, metric) == expected


class TestFormatPercent:
    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            (100, 105, "+5.0%"),
            (100, 95, "-5.0%"),
            (10_000, 10_001, "+0.01%"),
            (10_000, 10_009, "+0.09%"),
            (1_000, 1_001, "+0.1%"),
            (100_000, 100_009, "<0.01%"),
            (100_000, 99_991, ">-0.01%"),
            (100, 350, "+250.0%"),
            (100, 0, "-100.0%"),
            (100, 1_099, "+999.0%"),
            (100, 1_100, "x11"),
            (100, 1_234, "x12.3"),
            (10, 7_114_406, "x711k"),
            (3, 3_000_000_000_001, "x1T"),
            (0, 5, "new"),
            (5, 5, "0%"),
            (0, 0, "0%"),
            (Fraction(1, 3), Fraction(2, 3), "+100.0%"),
        ],
    )
    def test_shows_the_change(self, old, new, expected):
        """A small change is shown with more digits than a large change."""
        assert format_percent(old, new) == expected

    @given(old=st.integers(1, 10**15), new=st.integers(0, 10**15))
    def test_a_change_never_reads_as_none(self, old, new):
        text = format_percent(old, new)
        assert (text == "0%") is (old == new)
        assert text.strip("+-%") not in {"0.0", "0.00"}


class TestLargeNumbers:
    """Numbers that are too large for a float, or for Python's conversion to decimal text."""

    @pytest.mark.parametrize("metric", [FLOPS, PARAMS, BYTES, TIME, INTENSITY], ids=lambda metric: metric.key)
    @pytest.mark.parametrize(
        "value",
        [10**100, 10**308, 10**309, 10**4299, 10**4300, 2**100_000, 1e300, "1e99 E", -(10**5000)],
        ids=lambda value: "text" if isinstance(value, str) else f"{math.log2(abs(value)):.0f} bits",
    )
    def test_are_refused(self, value, metric):
        parse = parse_exactly if is_ratio(metric) else parse_quantity
        with pytest.raises(ValueError, match=r"too large|negative|no unit of time|unit|powers of 1000") as caught:
            parse(value, metric)
        assert len(str(caught.value)) < 400

    def test_the_largest_amount(self):
        assert parse_quantity(10**100 - 1, FLOPS) == 10**100 - 1
        with pytest.raises(ValueError, match=r"^10{99}\.\.\. is too large; the largest amount is just below 10\^100$"):
            parse_quantity(10**100, FLOPS)

    @pytest.mark.parametrize("value", [[10**5000], {"a": 10**5000}, 10**5000], ids=["list", "dict", "int"])
    def test_are_quoted(self, value):
        assert 5 < len(quote_value(value)) < 120

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (10**309, "1.000e+291 EFLOPs"),
            (123_456 * 10**395, "1.234e+382 EFLOPs"),
            (10**5000, "1.000e+4982 EFLOPs"),
            (10**58 - 1, "1.000e+40 EFLOPs"),
            (12_345 * 10**18, "12345 EFLOPs"),
        ],
        ids=lambda value: value if isinstance(value, str) else f"{math.log2(value):.0f} bits",
    )
    def test_have_an_exponent(self, value, expected):
        """If a value has too many digits, it is shown with an exponent."""
        # E is 10^18, so 10^309 FLOPs are 10^291 EFLOPs.
        assert format_value(value, FLOPS) == expected

    def test_percentages(self):
        # E is 10^18.
        assert format_percent(1, 10**400) == "x1.000e+382E"
        assert format_percent(10**400, 1) == "-100.0%"

    @given(st.integers(0, 9_000), st.integers(0, 10**6))
    def test_exact_values_of_any_size(self, zeros, number):
        text = format_exact(number * 10**zeros, PARAMS)
        digits = f"{number}{'0' * zeros}" if number else "0"
        assert text.replace(",", "") == digits
        assert [len(group) for group in text.split(",")[1:]] == [3] * ((len(digits) - 1) // 3)


class TestNearestSpelling:
    @pytest.mark.parametrize(
        ("word", "expected"),
        [("Flops", "flops"), ("param-bytes", "param_bytes"), ("parms", "params"), ("qqqqqq", None)],
    )
    def test_finds_what_was_meant(self, word, expected):
        """`nearest_spelling` returns the most similar known word, or None if no known word is similar."""
        assert nearest_spelling(word, METRICS) == expected


def test_a_count_takes_the_word_of_its_key():
    """The name of a counted metric is a unit for this metric, but not for another metric."""
    launches = Metric("launches", "launches", "count", "sum", "kernel launches")
    assert parse_quantity("1.2k launches", launches) == 1_200
    with pytest.raises(ValueError, match="does not fit launches"):
        parse_quantity("1.2k params", launches)


class TestWholeMessages:
    """Every message says what to write."""

    EXAMPLES = '"8.2 GFLOPs" or "4.1 GMACs"'

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (True, f"True is not an amount; write {EXAMPLES}"),
            ("many", f"'many' is not an amount; write {EXAMPLES}"),
            (-1, f"-1 is negative; write zero or more, like {EXAMPLES}"),
            (1.5, f"1.5 has no unit and is not whole; write {EXAMPLES}"),
            ("3 ms", f"'3 ms' is a time, which does not fit flops; write {EXAMPLES}"),
            ("8,178 GFLOPs", '\'8,178 GFLOPs\': does the comma group digits? Write "8178 GFLOPs" or "8.178 GFLOPs"'),
            (
                "8 GFLIPs",
                (
                    "'8 GFLIPs': unknown unit 'GFLIPs'; did you mean \"8 GFLOPs\"? "
                    "Allowed: FLOPs or MACs, after k, M, G, T, P, E or none"
                ),
            ),
        ],
    )
    def test_amounts(self, value, message):
        with pytest.raises(ValueError, match=r"write|Write|mean") as refused:
            parse_quantity(value, METRICS["flops"])
        assert str(refused.value) == message

    def test_a_prefix_alone_for_bytes(self):
        with pytest.raises(ValueError, match="powers") as refused:
            parse_quantity("1,024 K", METRICS["param_bytes"])
        assert str(refused.value) == '\'1,024 K\' may be powers of 1000 or of 1024; write "1024 KB" or "1024 KiB"'

    def test_percentages(self):
        with pytest.raises(ValueError, match="percentage") as refused:
            parse_percent("x")
        assert str(refused.value) == "'x' is not a percentage of zero or more; write it like \"1%\""

    @pytest.mark.parametrize(("table", "wrong"), [({}, "an empty table"), ({"most": "1%"}, "unknown key 'most'")])
    def test_tables(self, table, wrong):
        with pytest.raises(ValueError, match="write relative") as refused:
            parse_tolerance(table, METRICS["flops"])
        assert str(refused.value) == f'{wrong}; write relative = "1%", absolute = {self.EXAMPLES}, or both'


class TestLengths:
    def test_the_longest_amount(self):
        assert parse_quantity("1".zfill(100), METRICS["flops"]) == 1
        with pytest.raises(ValueError, match="not an amount"):
            parse_quantity("1".zfill(101), METRICS["flops"])

    def test_the_longest_quotation(self):
        # The two quotation marks count.
        assert quote_value("a" * 98) == "'" + "a" * 98 + "'"
        assert quote_value("a" * 99) == "'" + "a" * 99 + "..."


def test_a_percentage_with_a_space_behind():
    assert parse_tolerance("1% ", METRICS["flops"]) == Tolerance(relative=Fraction(1, 100))


def test_dashes_count_least():
    """A known word that differs only in case and dashes is suggested before all other words."""
    assert nearest_spelling("A-B", ["A-BC", "a_b"]) == "a_b"


def test_a_pair_of_ratios_has_no_more_digits_than_tell_them_apart():
    pair = format_pair(Fraction(123_411, 100_000), Fraction(123_421, 100_000), METRICS["arithmetic_intensity"])
    assert pair == ("1.2341 FLOPs/byte", "1.2342 FLOPs/byte")
