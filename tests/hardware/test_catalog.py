"""The catalog has the published figures of devices."""

from __future__ import annotations

import pytest

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.hardware.catalog import DEVICES, find_device, recognize_device, resolve_devices
from pytest_flopsbudget.hardware.profile import DTYPES, Device

TERA, GIGA, GIB = 10**12, 10**9, 2**30

#: TFLOP/s in FP64, FP32, TF32, BF16, FP16, FP8 and FP4, and TOPS in INT8, of dense matrix products; GB/s; GiB. The
#: figures are from the data sheets and white papers that the profiles cite, or None if these have no figure.
PUBLISHED = {
    "V100": (7.8, 15.7, None, None, 125, None, None, None, 900, 32),
    "T4": (None, 8.1, None, None, 65, None, None, 130, 320, 16),
    "A100": (19.5, 19.5, 156, 312, 312, None, None, 624, 1_555, 40),
    "A100-80GB": (19.5, 19.5, 156, 312, 312, None, None, 624, 2_039, 80),
    "L4": (None, 30.3, 60, 121, 121, 242.5, None, 242.5, 300, 24),
    "L40S": (None, 91.6, 183, 362, 362, 733, None, 733, 864, 48),
    "A10G": (None, 35, 35, 70, 70, None, None, 140, 600, 24),
    "H100": (67, 67, 494.5, 989.5, 989.5, 1_979, None, 1_979, 3_350, 80),
    "H200": (67, 67, 494.5, 989.5, 989.5, 1_979, None, 1_979, 4_800, 141),
    "B200": (40, 80, 1_100, 2_250, 2_250, 4_500, 9_000, 4_500, 8_000, 180),
    "GB200": (45, 90, 1_250, 2_500, 2_500, 5_000, 10_000, 5_000, 8_000, 186),
    "MI300X": (163.4, 163.4, 653.7, 1_307.4, 1_307.4, 2_614.9, None, 2_614.9, 5_300, 192),
    # 256 compute units at 2.4 GHz with 8192 FLOPs per cycle in FP8, twice as many in FP4, and half as many in halves.
    "MI355X": (78.6, 157.3, None, 2_516, 2_516, 5_033, 10_066, 5_033, 8_000, 288),
    "TPU-v5e": (None, None, None, 197, None, None, None, 393, 819, 16),
    "TPU-v6e": (None, None, None, 918, None, None, None, 1_836, 1_638, 32),
    "RTX-3090": (None, 35.6, 35.6, 71, 71, None, None, 284, 936, 24),
    "RTX-4090": (None, 82.6, 82.6, 165.2, 165.2, 330.3, None, 660.6, 1_008, 24),
    # 64 and 32 tensor cores at 1.3 GHz and 625 MHz, with 1024 operations on bytes per cycle: 170 and 40 sparse TOPS.
    "jetson-agx-orin": (None, 5.3, None, None, None, None, None, 85, 204.8, 64),
    "jetson-orin-nano": (None, 1.28, None, None, None, None, None, 20.48, 68, 8),
    "apple-m1": (None, 2.6, None, None, 2.6, None, None, None, 68.25, 16),
    # 4 cores at 1.8 GHz with 8 FLOPs per cycle; 32 bits at 3200 MT/s.
    "raspberry-pi-4": (0.0288, 0.0576, None, None, None, None, None, None, 12.8, 8),
    # 4 cores at 2.4 GHz with 16 FLOPs per cycle; 32 bits at 4267 MT/s.
    "raspberry-pi-5": (0.0768, 0.1536, None, None, 0.3072, None, None, 0.6144, 17.07, 16),
    # 64 cores at 3.5 GHz with 32 FLOPs per cycle; 8 channels of 8 bytes at 3200 MT/s.
    "epyc-7763": (3.584, 7.168, None, None, None, None, None, None, 204.8, 4_096),
    # 40 cores at 3.4 GHz with 64 FLOPs per cycle; 8 channels of 8 bytes at 3200 MT/s.
    "xeon-8380": (4.352, 8.704, None, None, None, None, None, None, 204.8, 6_144),
}


def test_every_device_has_published_figures():
    assert PUBLISHED.keys() == DEVICES.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_figures_are_those_published(name):
    """Each figure differs from the published figure by at most 1%."""
    # Data sheets round.
    *rates, bandwidth, memory = PUBLISHED[name]
    device = DEVICES[name]
    published = {dtype: rate * TERA for dtype, rate in zip(DTYPES, rates, strict=True) if rate is not None}
    assert {dtype: pytest.approx(rate, rel=0.01) for dtype, rate in published.items()} == {
        dtype: device.rates[dtype] for dtype in published
    }
    assert pytest.approx(bandwidth * GIGA, rel=0.01) == device.bandwidth
    assert memory * GIB == device.memory


def test_vector_rates_are_those_published():
    published = {
        "V100": {"float64": 7.8, "float32": 15.7, "float16": 31.4},
        "A100": {"float64": 9.7, "float32": 19.5, "bfloat16": 39, "float16": 78},
        "H100": {"float64": 34, "float32": 67, "bfloat16": 133.8, "float16": 133.8},
    }
    for name, rates in published.items():
        assert {dtype: pytest.approx(rate * TERA) for dtype, rate in rates.items()} == DEVICES[name].vector_rates


@pytest.mark.parametrize("device", DEVICES.values(), ids=lambda device: device.name)
class TestProfile:
    def test_names_the_source_of_every_figure(self, device):
        figures = [source.partition(": ")[0] for source in device.sources]
        assert all(": " in source for source in device.sources)
        assert any("rates" in figure or ("cores" in figure and "Hz" in figure) for figure in figures)
        assert all(any(word in figure for figure in figures) for word in ("bandwidth", "memory", "launch"))

    def test_fp32_is_not_computed_faster_than_halves(self, device):
        # Products in float32 do not use TF32, so they have the vector rate.
        rates = [device.rate(dtype) for dtype in ("float64", "float32", "tfloat32", "float16", "int8")]
        assert sorted(rates) == rates
        assert device.rate("float32") == device.vector_rate("float32")

    def test_matrix_units_are_the_fastest(self, device):
        assert all(device.vector_rate(dtype) <= device.rate(dtype) for dtype in DTYPES)

    def test_dtypes_are_known(self, device):
        assert set(device.rates) | set(device.vector_rates) <= set(DTYPES)


class TestDeviceNamed:
    @pytest.mark.parametrize("name", ["A100", "a100", "raspberry-pi-5", "Raspberry-Pi-5"])
    def test_in_whatever_case(self, name):
        assert find_device(name).name.casefold() == name.casefold()

    @pytest.mark.parametrize(("name", "near"), [("A10", "A10G"), ("rasberry-pi-5", "raspberry-pi-5"), ("h10O", "H100")])
    def test_an_unknown_one_is_told_with_what_is_near(self, name, near):
        with pytest.raises(
            ValueError, match=f"no device is named '{name}'; did you mean {near}\\? There are V100, T4, "
        ):
            find_device(name)

    def test_nothing_near(self):
        with pytest.raises(ValueError, match=r"no device is named 'qqqqqq'\. There are V100, "):
            find_device("qqqqqq")

    def test_own_ones_come_first(self):
        own = {name: Device(name, {"float32": 1}, {}, bandwidth=1, memory=1, launch=1) for name in ("camera", "a100")}
        assert find_device("Camera", own) is own["camera"]
        assert find_device("A100", own) is own["a100"]
        assert find_device("V100", own) is DEVICES["V100"]
        with pytest.raises(ValueError, match="did you mean camera"):
            find_device("camra", own)


class TestRecognized:
    @pytest.mark.parametrize(
        ("description", "name"),
        [
            ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
            ("NVIDIA A100-SXM4-40GB", "A100"),
            ("A100-PCIE-40GB", "A100"),
            ("Tesla V100-SXM2-16GB", "V100"),
            ("Tesla T4", "T4"),
            ("NVIDIA L4", "L4"),
            ("NVIDIA L40S", "L40S"),
            ("NVIDIA A10G", "A10G"),
            ("NVIDIA B200", "B200"),
            ("NVIDIA GB200", "GB200"),
            ("AMD Instinct MI355X", "MI355X"),
            ("TPU v5 lite", "TPU-v5e"),
            ("NVIDIA H100 80GB HBM3", "H100"),
            ("NVIDIA H200", "H200"),
            ("AMD Instinct MI300X", "MI300X"),
            ("AMD Instinct MI300X OAM", "MI300X"),
            ("NVIDIA GeForce RTX 4090", "RTX-4090"),
            ("NVIDIA GeForce RTX 3090", "RTX-3090"),
            ("NVIDIA Jetson AGX Orin Developer Kit", "jetson-agx-orin"),
            ("Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi-5"),
            ("Raspberry Pi 4 Model B Rev 1.4", "raspberry-pi-4"),
            ("Apple M1", "apple-m1"),
            ("AMD EPYC 7763 64-Core Processor", "epyc-7763"),
            ("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz", "xeon-8380"),
        ],
    )
    def test_what_drivers_say(self, description, name):
        """A device is recognized by the name that its driver or its system reports."""
        assert recognize_device(description) is DEVICES[name]

    @pytest.mark.parametrize(
        "description",
        [
            "NVIDIA A100 80GB PCIe",
            "NVIDIA H100 PCIe",
            "NVIDIA H200 NVL",
            "NVIDIA L40",
            "NVIDIA A10",
            "NVIDIA GeForce RTX 4090 Laptop GPU",
            "NVIDIA GeForce RTX 3090 Ti",
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            "Apple M1 Pro",
            "Raspberry Pi 400 Rev 1.0",
            "AMD EPYC 7763X",
            "",
        ],
    )
    def test_what_only_resembles_one(self, description):
        """If a device only has a similar name, it is not recognized."""
        assert recognize_device(description) is None


def test_a_single_name_is_no_list_of_devices():
    with pytest.raises(UsageError, match=r"'A100' is a text; write a list, devices=\['A100'\]"):
        resolve_devices("A100")
