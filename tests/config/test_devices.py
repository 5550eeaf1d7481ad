"""Devices in the pyproject."""

from __future__ import annotations

import textwrap

import pytest

from pytest_flopsbudget.config.reading import load_settings
from pytest_flopsbudget.config.settings import Settings, describe, find_device
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.hardware.catalog import DEVICES
from pytest_flopsbudget.hardware.profile import Device

CAMERA = """
    [tool.pytest-flopsbudget.devices.camera]
    float32 = "50 GFLOP/s"
    bandwidth = "17 GB/s"
"""


@pytest.fixture
def load(tmp_path):
    """Return a function that writes a pyproject and loads it."""

    def write_and_load(text):
        (tmp_path / "pyproject.toml").write_text(textwrap.dedent(text), encoding="utf-8")
        return load_settings(tmp_path)

    return write_and_load


@pytest.fixture
def problems(load):
    """Return a function that writes a pyproject with mistakes and returns the lines of the error."""

    def write_and_refuse(text):
        with pytest.raises(UsageError) as caught:
            load(text)
        return str(caught.value).splitlines()

    return write_and_refuse


def profile(text, name="camera"):
    return f"[tool.pytest-flopsbudget.devices.{name}]\n{textwrap.dedent(text)}"


class TestTimeOn:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ('"A100"', ("A100",)),
            ('["a100", "Raspberry-Pi-5"]', ("A100", "raspberry-pi-5")),
            ('["A100", "a100"]', ("A100",)),
            ("[]", ()),
        ],
    )
    def test_names_devices(self, load, value, expected):
        """The case of letters in a device's name does not matter."""
        assert expected == load(f"[tool.pytest-flopsbudget]\ntime-on = {value}").time_on

    def test_names_own_ones(self, load):
        """`time-on` may name a device whose profile comes later in the file."""
        assert load("[tool.pytest-flopsbudget]\ntime-on = ['CAMERA']\n" + textwrap.dedent(CAMERA)).time_on == (
            "camera",
        )

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (
                '"A10"',
                "no device is named 'A10'; did you mean A10G? There are V100, T4, *, xeon-8380; or write a profile, ",
            ),
            ("5", '5 is no name of a device, nor a list of them; write ["A100", "raspberry-pi-5"]'),
            ('["A100", 5]', "['A100', 5] is no name of a device, nor a list of them; write "),
        ],
    )
    def test_refuses_anything_else(self, problems, value, message):
        (line,) = problems(f"[tool.pytest-flopsbudget]\ntime-on = {value}")
        start, _, end = message.partition("*")
        assert line.startswith(f"pyproject.toml: [tool.pytest-flopsbudget] time-on: {start}")
        assert end in line

    def test_is_near_to_own_ones(self, problems):
        """If a project's own device is misspelled, the error suggests its name."""
        (line,) = problems("[tool.pytest-flopsbudget]\ntime-on = ['camra']\n" + textwrap.dedent(CAMERA))
        assert "no device is named 'camra'; did you mean camera?" in line


class TestProfiles:
    def test_reads_every_figure(self, load):
        settings = load(
            profile("""
                float64 = "1 GFLOP/s"
                float32 = "50 GFLOP/s"
                tfloat32 = "60 GFLOP/s"
                bfloat16 = "70 GFLOPS"
                float16 = "0.1T"
                float8 = "150 GFLOP/s"
                int8 = "200 GOPS"
                vector-float32 = "25 GFLOP/s"
                vector-float16 = "30 GMAC/s"
                bandwidth = "17 GB/s"
                memory = "8 GB"
                launch = "2 us"
            """)
        )
        assert settings.devices == {
            "camera": Device(
                "camera",
                rates={
                    "float64": 10**9,
                    "float32": 50 * 10**9,
                    "tfloat32": 60 * 10**9,
                    "bfloat16": 70 * 10**9,
                    "float16": 100 * 10**9,
                    "float8": 150 * 10**9,
                    "int8": 200 * 10**9,
                },
                vector_rates={"float32": 25 * 10**9, "float16": 60 * 10**9},
                bandwidth=17 * 10**9,
                memory=8 * 10**9,
                launch=2_000,
            )
        }

    def test_needs_little(self, load):
        device = load(CAMERA).devices["camera"]
        assert (device.rate("float16"), device.vector_rate("float32")) == (50 * 10**9, 50 * 10**9)
        assert (device.launch, device.memory) == (0, None)

    @pytest.mark.parametrize(
        ("written", "expected"),
        [('"Abacus 5"', ("Abacus 5",)), ('["Abacus 5$", "ABC"]', ("Abacus 5$", "ABC")), ("[]", ())],
    )
    def test_names_that_the_system_gives_it(self, load, written, expected):
        """The key ``names`` lists the names that drivers report for the device."""
        assert load(CAMERA + f"    names = {written}").devices["camera"].names == expected

    @pytest.mark.parametrize("written", ["5", '["Abacus", 5]', '""', '"$"'])
    def test_refuses_other_names(self, problems, written):
        (line,) = problems(CAMERA + f"    names = {written}")
        assert line.startswith("pyproject.toml: [tool.pytest-flopsbudget] devices.camera.names: ")
        assert line.endswith('is no name that the system gives the device, nor a list of them; write ["AMD EPYC 7763"]')

    def test_is_based_on_a_known_one(self, load):
        device = load(profile('based-on = "a100"\nbandwidth = "777 GB/s"\nfloat16 = "100 TFLOP/s"', "half")).devices[
            "half"
        ]
        known = DEVICES["A100"]
        assert device.name == "half"
        assert device.bandwidth == 777 * 10**9
        assert device.rates == {**known.rates, "float16": 100 * 10**12}
        assert (device.vector_rates, device.memory, device.launch) == (known.vector_rates, known.memory, known.launch)
        assert (device.names, device.sources) == ((), ())

    def test_is_based_on_one_above(self, load):
        devices = load(textwrap.dedent(CAMERA) + profile('based-on = "camera"\nlaunch = "1 us"', "camera-2")).devices
        assert devices["camera-2"].rates == devices["camera"].rates
        assert (devices["camera"].launch, devices["camera-2"].launch) == (0, 1_000)

    def test_takes_the_place_of_a_known_one(self, load):
        settings = load(
            "[tool.pytest-flopsbudget]\ntime-on = 'A100'\n" + profile("based-on = 'A100'\nlaunch = '0 us'", "A100")
        )
        assert settings.time_on == ("A100",)
        assert find_device(settings, "a100").launch == 0
        assert DEVICES["A100"].launch > 0

    @pytest.mark.parametrize(
        ("text", "lines"),
        [
            (
                "float32 = '50'\nbandwidth = '17 GB/s'",
                ['.float32: \'50\' has no unit; write "19.5 TFLOP/s" or "26 TOPS"'],
            ),
            ("float32 = '50G'\nbandwidth = 17", ['.bandwidth: 17 is not a speed; write "1555 GB/s" or "1.5 TiB/s"']),
            (
                "flaot32 = '50G'\nbandwidth = '17 GB/s'",
                [".flaot32: no such key; did you mean float32 or tfloat32?"],
            ),
            ("float32 = '50G'\nbandwith = '17 GB/s'", [".bandwith: no such key; did you mean bandwidth?"]),
            (
                "float32 = '50G'\nbandwidth = '17 GB/s'\nlaunch = 2",
                ['.launch: 2 has no unit of time; write "3 ms" or "400 us"'],
            ),
            (
                "float32 = '50G'\nbandwidth = '17 GB/s'\nmemory = '8G'",
                [".memory: '8G' may be powers of 1000 or of 1024; write "],
            ),
            ("based-on = 'A10'", [".based-on: no device is named 'A10'; did you mean A10G? There are "]),
            ("based-on = 5", ['.based-on: 5 is no name of a device; write based-on = "A100"']),
            ("based-on = 'camera'", [".based-on: no device is named 'camera'"]),
            (
                "bandwidth = '17 GB/s'",
                [': has no rate of products; write one, like float32 = "50 GFLOP/s", or based-on = "A100"'],
            ),
            ("vector-float32 = '1G'\nbandwidth = '17 GB/s'", [": has no rate of products; write one, like "]),
            ("float32 = '50G'", [': has no bandwidth; write bandwidth = "17 GB/s", or based-on = "A100"']),
            ("", [": has no rate of products; ", ": has no bandwidth; "]),
            ("float32 = 1\nint8 = 2", [".float32: 1 is not a speed", ".int8: 2 is not a speed"]),
        ],
    )
    def test_tells_every_mistake(self, problems, text, lines):
        found = problems(profile(text))
        assert len(lines) == len(found)
        for line, start in zip(found, lines, strict=True):
            assert line.startswith(f"pyproject.toml: [tool.pytest-flopsbudget] devices.camera{start}")

    @pytest.mark.parametrize(
        ("text", "start"),
        [
            ("[tool.pytest-flopsbudget]\ndevices = 'A100'", " devices: 'A100' is no table of profiles; write [tool."),
            ("[tool.pytest-flopsbudget.devices]\ncamera = 5", " devices.camera: 5 is no profile; write {float32 = "),
            ("[tool.pytest-flopsbudget.devices.'a[b]']", ' devices."a[b]": is no name of a device: write at least'),
            ("[tool.pytest-flopsbudget.devices.'']", ' devices."": is no name of a device: write at least'),
            ("[tool.pytest-flopsbudget.devices.' a']", ' devices." a": is no name of a device: write at least'),
        ],
    )
    def test_tells_what_is_no_profile(self, problems, text, start):
        (line,) = problems(text)
        assert line.startswith(f"pyproject.toml: [tool.pytest-flopsbudget]{start}")

    def test_tells_names_that_differ_in_case(self, problems):
        (line,) = problems(textwrap.dedent(CAMERA) + profile("based-on = 'A100'", "Camera"))
        assert " devices.Camera: another profile has this name with other capital letters" in line


class TestDeviceNamed:
    def test_finds_own_ones_and_known_ones(self, load):
        settings = load(CAMERA)
        assert find_device(settings, "Camera") is settings.devices["camera"]
        assert find_device(settings, "h100") is DEVICES["H100"]

    def test_tells_what_is_near(self):
        """If a device is unknown, the error suggests a similar name."""
        with pytest.raises(ValueError, match="no device is named 'H10'; did you mean H100"):
            find_device(Settings(), "H10")


def test_the_head_of_a_run_names_them(load):
    settings = load("[tool.pytest-flopsbudget]\ntime-on = ['a100', 'T4']")
    assert describe(settings) == "pyproject.toml: estimates time on A100, T4"
