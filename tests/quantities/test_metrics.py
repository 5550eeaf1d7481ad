"""The table of metrics, keys of values, and derived values."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pytest_flopsbudget.quantities.metrics import (
    METRICS,
    STORED,
    STORED_BY_NAME,
    base_of,
    baseline_metrics,
    count_of,
    devices_in,
    identifying_metrics,
    implied_count,
    is_key,
    is_measured,
    is_optional,
    is_stored,
    key_for,
    measured_key,
    measured_value,
    metric_of,
    name_in,
    parts_of,
    sort_metrics,
    title_of,
    value_of,
    value_to_add,
)

TIMES = {"compute_time[A100]": 5, "memory_time[A100]": 7, "launch_time[A100]": 11}


class TestTable:
    def test_what_derives_derives_from_what_is_stored(self):
        for metric in METRICS.values():
            for part in (*metric.derived, *metric.over):
                assert not METRICS[part].derived
                assert METRICS[part].per == metric.per

    def test_every_row_is_derived_or_stored_in_one_way(self):
        derived = {key for key, metric in METRICS.items() if metric.derived}
        assert sorted([*STORED, *STORED_BY_NAME, *derived]) == sorted(METRICS)

    def test_ratios_and_what_a_device_serves_are_better_the_larger(self):
        assert {key for key, metric in METRICS.items() if metric.better == "more"} == {
            "arithmetic_intensity",
            "average_parallelism",
            "requests",
            "tokens_per_second",
        }


class TestKeys:
    @pytest.mark.parametrize("name", ["A100", "raspberry-pi-5", "T4 [16 GB", "a.b=c,{}", '"', " ", "é"])
    def test_a_name_comes_back(self, name):
        """The name of a device in a key may contain any character except a closing bracket."""
        key = key_for("time", name)
        assert (base_of(key), name_in(key)) == ("time", name)
        assert is_key(key)
        assert metric_of(key) is METRICS["time"]

    def test_without_a_name(self):
        assert (base_of("flops"), name_in("flops")) == ("flops", None)

    @pytest.mark.parametrize(
        "key", ["time", "time[]", "time[A100", "time[a]b]", "flops[A100]", "tme[A100]", "", "[A100]", "compute_time"]
    )
    def test_what_names_no_value(self, key):
        assert not is_key(key)

    @pytest.mark.parametrize("key", ["flops", "macs", "depth", "latency", "latency[box]", "memory_time[T4]"])
    def test_what_names_a_value(self, key):
        assert is_key(key)

    @pytest.mark.parametrize(
        ("key", "expected"),
        [("flops", True), ("compute_time[T4]", True), ("latency[box]", True)]
        + [(key, False) for key in ("macs", "latency", "time[T4]", "arithmetic_intensity", "flop", "compute_time")],
    )
    def test_what_results_hold(self, key, expected):
        assert is_stored(key) is expected

    def test_an_unknown_key(self):
        with pytest.raises(KeyError):
            metric_of("tme[A100]")

    def test_order(self):
        """Keys are sorted by metric and then by device."""
        keys = ["time[T4]", "latency[box]", "flops", "time[A100]", "depth", "macs"]
        assert sort_metrics(keys) == ["flops", "macs", "depth", "time[A100]", "time[T4]", "latency[box]"]

    def test_titles(self):
        assert (title_of("flops"), title_of("time[A100]")) == ("FLOPs", "est. time A100")

    def test_devices(self):
        """`devices_in` returns the names of devices, but not the names of machines."""
        assert devices_in(["flops", "latency[box]", "memory_time[T4]", "time[A100]", "launch_time[T4]"]) == [
            "A100",
            "T4",
        ]

    def test_what_has_to_be_asked_for(self):
        assert [is_optional(key) for key in ("flops", "depth", "latency[box]", "compute_time[T4]")] == [
            False,
            False,
            True,
            True,
        ]


class TestValues:
    def test_a_time_is_the_sum_of_its_parts(self):
        assert value_of(TIMES, "time[A100]") == 23
        assert parts_of("time[A100]") == tuple(TIMES)
        assert value_of(TIMES, "launch_time[A100]") == 11

    @pytest.mark.parametrize("missing", TIMES)
    def test_a_time_with_a_part_missing(self, missing):
        metrics = {key: value for key, value in TIMES.items() if key != missing}
        assert value_of(metrics, "time[A100]") is None
        assert value_of(TIMES, "time[T4]") is None

    def test_intensity_is_exact(self):
        # (10 + 4) FLOPs divided by 6 bytes
        metrics = {"flops": 10, "other_flops": 4, "memory_traffic": 6}
        assert value_of(metrics, "arithmetic_intensity") == Fraction(7, 3)

    def test_parallelism_is_exact(self):
        # (10 + 4) FLOPs divided by 4 steps
        assert value_of({"flops": 10, "other_flops": 4, "depth": 4}, "average_parallelism") == Fraction(7, 2)

    def test_a_ratio_beyond_floats(self):
        metrics = {"flops": 2**80 + 1, "other_flops": 0, "memory_traffic": 2**80}
        assert value_of(metrics, "arithmetic_intensity") - 1 == Fraction(1, 2**80)

    def test_a_ratio_over_nothing(self):
        """If the divisor of a ratio is 0, the ratio counts as measured, and its value is None."""
        metrics = {"flops": 10, "other_flops": 4, "memory_traffic": 0}
        assert value_of(metrics, "arithmetic_intensity") is None
        assert is_measured(metrics, "arithmetic_intensity")
        assert not is_measured({"flops": 10, "other_flops": 4}, "arithmetic_intensity")
        assert not is_measured({"flops": 10, "memory_traffic": 1}, "arithmetic_intensity")

    def test_the_whole_part_of_a_ratio_is_no_value_of_it(self):
        assert count_of({"flops": 10, "other_flops": 4}, "total_flops") == 14
        assert value_of({"flops": 10, "other_flops": 4}, "average_parallelism") is None

    def test_latency_is_that_of_the_machine_which_measured(self):
        assert measured_key({"flops": 1, "latency[box]": 9}, "latency") == "latency[box]"
        assert measured_value({"latency[box]": 9}, "latency") == 9
        assert measured_value({"latency[box]": 9}, "latency[other]") is None
        assert measured_value({"flops": 1}, "latency") is None
        assert measured_key({"flops": 1}, "latency") == "latency"

    def test_communication_is_none_where_there_are_no_processes(self):
        assert measured_value({}, "communication") == 0
        assert measured_value({}, "flops") is None

    def test_active_params_are_the_params_where_nothing_is_routed(self):
        assert measured_value({"params": 9}, "active_params") == measured_value({"params": 9}, "params") == 9
        assert measured_value({"params": 9, "active_params": 4}, "active_params") == 4
        assert measured_value({"flops": 1}, "active_params") is None
        assert is_measured({"params": 9}, "non_embedding_params")

    def test_masked_flops_are_the_flops_where_no_mask_leaves_out_anything(self):
        assert measured_value({"flops": 9}, "masked_flops") == implied_count({"flops": 9}, "masked_flops") == 9
        assert implied_count({"flops": 9, "masked_flops": 0}, "masked_flops") == 0
        assert implied_count({"params": 9}, "masked_flops") is None
        assert implied_count({"params": 9}, "communication") is None

    def test_values_to_add(self):
        assert [value_to_add({"params": 9}, key) for key in ("params", "active_params", "flops")] == [9, 9, 0]

    def test_what_tells_a_model(self):
        """Neither times nor latencies identify a model, nor do metrics that baselines leave out."""
        assert identifying_metrics({"flops": 1, "latency[box]": 3, "active_params": 2} | TIMES) == {("flops", 1)}

    def test_what_a_baseline_stores(self):
        metrics = {"params": 9, "active_params": 4, "non_embedding_params": 5}
        assert baseline_metrics(metrics | TIMES) == {"params": 9} | TIMES
