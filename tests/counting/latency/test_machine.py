"""The name of the machine that a latency belongs to."""

from __future__ import annotations

import platform
from types import SimpleNamespace

import pytest
import torch

from pytest_flopsbudget.counting.latency import machine
from pytest_flopsbudget.counting.latency.machine import describe_hardware, device_of, machine_name

CPU = torch.device("cpu")
#: Fields of /proc/cpuinfo on a server, and on a board that does not name its processor.
SERVER = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD  EPYC 7763 64-Core Processor \nstepping\t: 1\n"
BOARD = "processor\t: 0\nCPU part\t: 0xd0b\n\nRevision\t: d04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Return a function that sets the names that the operating system reports for the processor."""
    monkeypatch.setattr(machine, "_PROCESSORS", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine, "_BOARD", tmp_path / "model")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "")

    def say(processors=None, board=None, processor="", kind=""):
        for name, text in (("cpuinfo", processors), ("model", board)):
            if text is not None:
                (tmp_path / name).write_text(text, encoding="utf-8")
        monkeypatch.setattr(platform, "processor", lambda: processor)
        monkeypatch.setattr(platform, "machine", lambda: kind)

    return say


class TestProcessor:
    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ({"processors": SERVER}, "AMD EPYC 7763 64-Core Processor"),
            ({"processors": BOARD}, "Raspberry Pi 5 Model B Rev 1.0"),
            (
                {"processors": "processor\t: 0\n", "board": "NVIDIA Jetson AGX Orin Developer Kit\0"},
                "NVIDIA Jetson AGX Orin Developer Kit",
            ),
            ({"processor": "arm", "kind": "arm64"}, "arm"),
            ({"kind": "arm64"}, "arm64"),
            ({}, "cpu"),
        ],
    )
    def test_what_the_system_says(self, system, said, expected):
        # Repeated blanks become one.
        system(**said)
        assert expected == describe_hardware(CPU)

    def test_threads(self, system):
        system(SERVER)
        assert machine_name(CPU, 4) == "AMD EPYC 7763 64-Core Processor x 4"

    def test_brackets(self, system):
        """Brackets in the processor's name become parentheses."""
        # A key contains the name in brackets.
        system("model name : Core [8]\n")
        assert machine_name(CPU, 8) == "Core (8) x 8"


class TestAccelerator:
    def test_the_driver_says(self, monkeypatch):
        """An accelerator has the name that its driver reports."""
        names = ["first", "NVIDIA A100-SXM4-80GB"]
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[device.index])
        assert machine_name(torch.device("cuda", 1), 4) == "NVIDIA A100-SXM4-80GB"

    def test_a_backend_says(self, monkeypatch):
        """An Apple device has the name that PyTorch's MPS backend reports."""
        monkeypatch.setattr(torch.backends, "mps", SimpleNamespace(get_name=lambda: "Apple M1"))
        assert describe_hardware(torch.device("mps")) == "Apple M1"

    def test_nobody_says(self):
        assert describe_hardware(torch.device("meta")) == "meta"


class TestDevice:
    def test_first_accelerator(self):
        """If several tensors are on accelerators, `device_of` returns the device of the first such tensor."""
        tensors = [SimpleNamespace(device=torch.device(name)) for name in ("cpu", "cuda:1", "cuda:0")]
        assert device_of(tensors) == torch.device("cuda", 1)

    @pytest.mark.parametrize("tensors", [[], [torch.ones(1)]])
    def test_none(self, tensors):
        assert device_of(tensors) == CPU
