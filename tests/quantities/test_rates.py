"""Parsing of the speeds of devices."""

from __future__ import annotations

import pytest

from pytest_flopsbudget.quantities.rates import parse_rate


class TestParseRate:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("312 TFLOP/s", 312 * 10**12),
            ("312 TFLOPS", 312 * 10**12),
            ("312 TFLOPs/s", 312 * 10**12),
            ("19.5T", 19_500_000_000_000),
            ("26 TOPS", 26 * 10**12),
            ("26 TOP/s", 26 * 10**12),
            ("13 TMAC/s", 26 * 10**12),
            ("153.6 GFLOP/s", 153_600_000_000),
            ("500 FLOP/s", 500),
            ("1.5 FLOP/s", 2),
        ],
    )
    def test_reads_work_a_second(self, text, expected):
        """A multiply-accumulate counts as two FLOPs, and a fraction is rounded up."""
        assert parse_rate(text, "FLOP/s") == expected

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("1555 GB/s", 1_555_000_000_000), ("1.5 TiB/s", 3 * 2**39), ("17GB/s", 17 * 10**9), ("12 B / s", 12)],
    )
    def test_reads_bytes_a_second(self, text, expected):
        assert parse_rate(text, "B/s") == expected

    @pytest.mark.parametrize("speed", ["FLOP/s", "B/s"])
    @pytest.mark.parametrize("value", ["", "fast", 5, 1.5, None, True, [], "1..2 GB/s"])
    def test_refuses_what_is_no_speed(self, value, speed):
        with pytest.raises(ValueError, match=r"is not a speed; write \""):
            parse_rate(value, speed)

    @pytest.mark.parametrize(
        ("text", "speed", "message"),
        [
            ("312 TFLOPs", "FLOP/s", r'unknown unit \'TFLOPs\'; did you mean "312 TFLOPS"\? Allowed: FLOP/s'),
            ("50 gflop/s", "FLOP/s", r'did you mean "50 GFLOP/s"\?'),
            ("1555 GB", "B/s", r'did you mean "1555 GB/s"\? Allowed: B/s'),
            ("1555 GBps", "B/s", r"unknown unit 'GBps'.*Allowed: B/s"),
            ("1555 GB/s", "FLOP/s", "is a speed in B/s, and not in FLOP/s"),
            ("19.5 TFLOPS", "B/s", "is a speed in FLOP/s, and not in B/s"),
            ("1555", "B/s", "has no unit; write"),
            ("1555", "FLOP/s", "has no unit; write"),
            ("0 GB/s", "B/s", "is no speed above zero"),
            ("-3 GFLOPS", "FLOP/s", "is no speed above zero"),
            ("1,555 GB/s", "B/s", 'Write "1555 GB/s" or "1.555 GB/s"'),
        ],
    )
    def test_refuses_other_units(self, text, speed, message):
        with pytest.raises(ValueError, match=message):
            parse_rate(text, speed)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("x", '\'x\' is not a speed; write "1555 GB/s" or "1.5 TiB/s"'),
            ("5", '\'5\' has no unit; write "1555 GB/s" or "1.5 TiB/s"'),
            ("0 GB/s", '\'0 GB/s\' is no speed above zero; write "1555 GB/s" or "1.5 TiB/s"'),
            ("1,555 GB/s", '\'1,555 GB/s\': does the comma group digits? Write "1555 GB/s" or "1.555 GB/s"'),
        ],
    )
    def test_whole_messages(self, text, message):
        with pytest.raises(ValueError, match=r"write|Write") as refused:
            parse_rate(text, "B/s")
        assert str(refused.value) == message
