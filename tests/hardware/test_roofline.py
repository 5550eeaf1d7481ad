"""The roofline gives the shortest possible time of an operator on a device."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopsbudget.hardware.catalog import DEVICES
from pytest_flopsbudget.hardware.profile import DTYPES, Device
from pytest_flopsbudget.hardware.roofline import Times, bound_of, times

amounts = st.integers(0, 10**18)
devices = st.sampled_from(list(DEVICES.values()))
dtypes = st.sampled_from(DTYPES)

#: 100 FLOPs per ns in products, 10 in other work; 2 bytes per ns; 5 ns per launch.
SMALL = Device("small", {"float32": 100 * 10**9}, {"float32": 10 * 10**9}, 2 * 10**9, memory=2**30, launch=5)


class TestTimes:
    @pytest.mark.parametrize(
        ("flops", "other_flops", "bytes_moved", "expected"),
        [
            (1_000, 0, 0, Times(10, 0, 5)),
            (1_000, 90, 0, Times(10, 0, 5)),
            (1_000, 110, 0, Times(11, 0, 5)),
            (1_000, 0, 18, Times(10, 0, 5)),
            (1_000, 0, 22, Times(0, 11, 5)),
            (1_099, 0, 21, Times(10, 0, 5)),
            (0, 0, 3, Times(0, 1, 5)),
            (0, 0, 0, Times(0, 0, 5)),
        ],
    )
    def test_is_the_larger_of_work_and_traffic(self, flops, other_flops, bytes_moved, expected):
        assert expected == times(SMALL, flops, other_flops, bytes_moved, "float32")

    @pytest.mark.parametrize(("launches", "expected"), [(0, 0), (1, 5), (3, 15)])
    def test_launches_add_up(self, launches, expected):
        assert expected == times(SMALL, 1_000, 0, 0, "float32", launches=launches).launch

    def test_of_a_convolution_on_an_a100(self):
        """ResNet-50's first convolution is compute-bound in float32 and memory-bound in TF32 and bfloat16."""
        flops = 2 * 112 * 112 * 7 * 7 * 3 * 64
        bytes_moved = 4 * (3 * 224 * 224 + 64 * 3 * 7 * 7 + 64 * 112 * 112)
        # FP32: 236,027,904 / 19.5e12 = 12.104 us; bytes: 3,850,752 / 1.555e12 = 2.476 us
        assert times(DEVICES["A100"], flops, 0, bytes_moved, "float32") == Times(12_103, 0, 900)
        # cuDNN's default is TF32: 236,027,904 / 156e12 = 1.513 us, less than the bytes take
        assert times(DEVICES["A100"], flops, 0, bytes_moved, "tfloat32") == Times(0, 2_476, 900)
        # BF16: 236,027,904 / 312e12 = 0.756 us; half of the bytes take 1.238 us
        assert times(DEVICES["A100"], flops, 0, bytes_moved // 2, "bfloat16") == Times(0, 1_238, 900)

    @given(device=devices, work=st.tuples(amounts, amounts, amounts), dtype=dtypes, launches=st.integers(0, 1_000))
    def test_is_at_most_the_exact_time(self, device, work, dtype, launches):
        """The time is rounded down by less than one nanosecond."""
        flops, other, moved = work
        exact = launches * device.launch + 10**9 * max(
            Fraction(flops, device.rate(dtype)),
            Fraction(other, device.vector_rate(dtype)),
            Fraction(moved, device.bandwidth),
        )
        assert 0 <= exact - sum(times(device, flops, other, moved, dtype, launches=launches)) < 1

    @given(device=devices, work=st.tuples(amounts, amounts, amounts), more=st.tuples(amounts, amounts, amounts))
    def test_more_work_takes_no_less(self, device, work, more):
        larger = (a + b for a, b in zip(work, more, strict=True))
        assert sum(times(device, *work, "float32")) <= sum(times(device, *larger, "float32"))

    @given(device=devices, work=st.tuples(amounts, amounts, amounts), more=st.tuples(amounts, amounts, amounts))
    def test_one_operator_takes_no_more_than_two(self, device, work, more):
        both = (a + b for a, b in zip(work, more, strict=True))
        apart = sum(times(device, *work, "float16")) + sum(times(device, *more, "float16"))
        assert sum(times(device, *both, "float16")) <= apart + 1

    @given(device=devices, work=st.tuples(amounts, amounts, amounts), dtype=dtypes)
    def test_either_work_or_traffic_is_credited(self, device, work, dtype):
        """The compute time or the memory time of an operator is 0, because only the larger one counts."""
        found = times(device, *work, dtype)
        assert 0 in {found.compute, found.memory}


class TestBoundOf:
    @pytest.mark.parametrize(
        ("parts", "expected"),
        [
            ((3, 2, 1), "compute"),
            ((2, 3, 1), "memory"),
            ((1, 2, 3), "launch"),
            ((2, 2, 2), "compute"),
            ((1, 2, 2), "memory"),
            ((0, 0, 0), "compute"),
        ],
    )
    def test_is_the_largest(self, parts, expected):
        assert bound_of(*parts) == expected
