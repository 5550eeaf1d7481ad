"""Limits in markers and in the pyproject."""

from __future__ import annotations

from fractions import Fraction

import pytest
from budgets import bounds, bounds_of_parts

from pytest_flopsbudget.config.reading import load_settings, marker_budget
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.hardware.profile import Device


def marked(**kwargs):
    rates = {"float32": 10**9}
    own = Device(name="our-board", rates=rates, vector_rates=rates, bandwidth=10**9, memory=None, launch=0)
    return marker_budget((), kwargs, "marker", {"our-board": own})


def problems(**kwargs):
    with pytest.raises(UsageError) as caught:
        marked(**kwargs)
    return str(caught.value).splitlines()


class TestTimes:
    def test_by_device(self):
        """Limits on times are stored in nanoseconds."""
        # "a100" becomes the name of the profile, "A100".
        budget = marked(time={"a100": "3 ms", "our-board": "1.5 s"}, memory_time={"A100": "1 us"})
        assert budget.limits == bounds(
            {"time[A100]": 3_000_000, "time[our-board]": 1_500_000_000, "memory_time[A100]": 1000}
        )

    def test_of_modules_and_phases(self):
        budget = marked(
            modules={"layer4*": {"time": {"A100": "1 ms"}, "peak_memory": "1 KiB"}},
            phases={"backward": {"time": {"A100": "2 ms"}, "arithmetic_intensity": 3}},
        )
        assert budget.modules == bounds_of_parts({"layer4*": {"time[A100]": 1_000_000, "peak_memory": 1024}})
        assert budget.phases == bounds_of_parts({"backward": {"time[A100]": 2_000_000, "arithmetic_intensity": 3}})

    def test_an_unknown_device(self):
        (told,) = problems(time={"A10O": "3 ms"})
        assert told.startswith("marker: time.A10O: no device is named 'A10O'; did you mean A10G")
        assert "our-board" in told

    def test_two_spellings_of_one_device(self):
        (told,) = problems(time={"A100": "3 ms", "a100": "4 ms"})
        assert told == "marker: time.a100: is A100, which has a limit in this table already"

    @pytest.mark.parametrize("value", ["3 ms", 3, [], {}, None])
    def test_without_a_device(self, value):
        assert problems(time=value) == [
            f'marker: time: {value!r} is not a table of limits by device; write {{"A100": "3 ms"}}'
        ]

    @pytest.mark.parametrize("value", [3, "3", "3 GFLOPs", "-1 ms", {"A100": "1 ms"}])
    def test_no_time(self, value):
        (told,) = problems(time={"A100": value})
        assert told.startswith("marker: time.A100: ")

    @pytest.mark.parametrize("name", ["", "a]", 5])
    def test_no_name(self, name):
        (told,) = problems(time={name: "3 ms"})
        assert 'is no name of a device; write one like "A100"' in told

    def test_a_mistyped_metric(self):
        (told,) = problems(tiem={"A100": "3 ms"})
        assert told.startswith("marker: tiem: no such key; did you mean time?")


class TestLatency:
    def test_of_the_machine_at_hand(self):
        assert marked(latency="12 ms").limits == bounds({"latency": 12_000_000})


class TestRatios:
    def test_least_values(self):
        """A limit on a ratio is stored as an exact fraction."""
        assert marked(arithmetic_intensity="8.2 FLOPs/byte", average_parallelism="1.2k FLOPs/step").limits == bounds(
            {"arithmetic_intensity": Fraction(41, 5), "average_parallelism": 1200}
        )


class TestWhatPartsHave:
    @pytest.mark.parametrize("metric", ["depth", "latency", "average_parallelism"])
    def test_no_module_has_what_the_whole_has(self, metric):
        assert problems(modules={"a": {metric: 1, "flops": 1}}) == [
            f"marker: modules.a.{metric}: belongs to the whole model; write its limit outside of modules"
        ]

    @pytest.mark.parametrize("metric", ["depth", "latency", "average_parallelism", "peak_memory", "params"])
    def test_phases_are_work(self, metric):
        (told,) = problems(phases={"forward": {metric: 1}})
        assert told.startswith(
            f"marker: phases.forward.{metric}: measures no work, and a phase has limits on work only; there are flops"
        )


class TestPyproject:
    @pytest.fixture
    def load(self, tmp_path):
        def write_and_load(text):
            (tmp_path / "pyproject.toml").write_text(f"[tool.pytest-flopsbudget]\n{text}", encoding="utf-8")
            return load_settings(tmp_path)

        return write_and_load

    def test_own_devices_may_be_named_anywhere(self, load):
        settings = load(
            """
            show = "time[Our-Board]"
            limits.time = {our-board = "1 ms"}
            budgets = [{match = "*", modules = {a = {time = {OUR-BOARD = "2 ms"}}}}]
            [tool.pytest-flopsbudget.devices.our-board]
            float32 = "50 GFLOP/s"
            bandwidth = "17 GB/s"
            """
        )
        assert settings.show == "time[our-board]"
        assert settings.limits.limits == bounds({"time[our-board]": 1_000_000})
        assert settings.budgets[0].modules == bounds_of_parts({"a": {"time[our-board]": 2_000_000}})

    @pytest.mark.parametrize("key", ["peak_memory", "arithmetic_intensity", "depth", "latency", "time[A100]", "params"])
    def test_any_metric_may_be_shown(self, load, key):
        assert load(f"show = '{key}'").show == key

    @pytest.mark.parametrize(
        ("key", "told"),
        [
            ("time", 'has a value for each device; name one, like "time[A100]"'),
            ("time[A10O]", "no device is named 'A10O'"),
            ("peak_memry", 'did you mean "peak_memory"?'),
            ("flops[A100]", "is none of"),
        ],
    )
    def test_what_cannot_be_shown(self, load, key, told):
        with pytest.raises(UsageError) as caught:
            load(f"show = '{key}'")
        assert told in str(caught.value)

    def test_tolerances(self, load):
        """A tolerance for all metrics does not apply to the latency."""
        found = load('tolerance = {time = "5%", peak_memory = "1 MiB", latency = "3%"}').tolerance
        assert found["time"].relative == Fraction(1, 20)
        assert found["peak_memory"].absolute == 2**20
        assert found["latency"].relative == Fraction(3, 100)
        common = load('tolerance = "1%"').tolerance
        assert (common["time"].relative, common["latency"].relative) == (Fraction(1, 100), Fraction(1, 10))

    @pytest.mark.parametrize(
        ("key", "told"),
        [
            ("compute_time", "is a part of time"),
            ("arithmetic_intensity", "is a ratio"),
            ("total_flops", "is the sum of flops and other_flops"),
            ("active_params", "is in no baseline; name metrics that are, such as flops or params"),
        ],
    )
    def test_tolerances_of_what_is_not_compared(self, load, key, told):
        with pytest.raises(UsageError, match=told):
            load(f'tolerance = {{{key} = "5%"}}')
