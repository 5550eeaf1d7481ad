"""A profile of a device has a rate for every dtype."""

from __future__ import annotations

import pytest

from pytest_flopsbudget.hardware.profile import Device


def device(rates, vector_rates=None):
    return Device("d", rates, vector_rates or {}, bandwidth=1, memory=1, launch=1)


class TestRate:
    @pytest.mark.parametrize(
        ("dtype", "expected"),
        [
            ("float32", 10),
            ("float16", 40),
            ("bfloat16", 40),
            ("float8_e4m3fn", 40),
            ("float8_e5m2", 40),
            ("int8", 90),
            ("uint8", 90),
            ("qint8", 90),
            ("quint8", 90),
            ("complex64", 10),
            ("complex32", 40),
            ("float64", 10),
            ("tfloat32", 10),
            ("complex128", 10),
            ("int64", 90),
            ("bool", 90),
            ("float4_e2m1fn_x2", 40),
        ],
    )
    def test_falls_back_to_the_fastest_that_may_apply(self, dtype, expected):
        """A dtype without its own rate gets the rate of another dtype."""
        assert device({"float32": 10, "float16": 40, "int8": 90}).rate(dtype) == expected

    @pytest.mark.parametrize(
        ("rates", "dtype", "expected"),
        [
            ({"float32": 10, "bfloat16": 30, "float16": 40}, "float8", 40),
            ({"float32": 10, "bfloat16": 30}, "float16", 30),
            ({"float32": 10}, "int8", 10),
            ({"float64": 5, "float16": 40}, "float32", 40),
            ({"int8": 90}, "float32", 90),
            ({"float32": 10, "float8": 80}, "float8_e5m2fnuz", 80),
            ({"float16": 40, "float8": 80}, "float4_e2m1fn_x2", 80),
            ({"float8": 80, "float4": 160}, "float4_e2m1fn_x2", 160),
            ({"float32": 10, "uint8": 70}, "uint8", 70),
        ],
    )
    def test_of_few_rates(self, rates, dtype, expected):
        assert device(rates).rate(dtype) == expected

    def test_of_vectors_has_rates_of_its_own(self):
        found = device({"float32": 10, "float16": 400}, {"float32": 10, "float16": 20})
        assert found.vector_rate("float16") == 20
        assert found.vector_rate("bfloat16") == 20

    def test_of_vectors_is_that_of_products_where_there_is_no_other(self):
        assert device({"float32": 10}).vector_rate("float32") == 10


def test_tf32_is_asked_for_by_name():
    """The rate of TF32 does not change the rate of float32."""
    found = device({"float32": 10, "tfloat32": 80}, {"float32": 10})
    assert (found.rate("float32"), found.rate("tfloat32"), found.vector_rate("tfloat32")) == (10, 80, 10)


def test_devices_go_into_sets_and_tables():
    one, same = device({"float32": 10}), device({"float32": 10})
    assert one == same
    assert len({one, same}) == 1
