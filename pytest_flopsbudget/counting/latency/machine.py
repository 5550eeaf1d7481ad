"""Name this machine: its processor, or the accelerator that a model's tensors are on."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable


#: Files in which Linux names the processors, and the board (for example of a Raspberry Pi).
_PROCESSORS = Path("/proc/cpuinfo")
_BOARD = Path("/proc/device-tree/model")
#: The fields with the name: ``model name`` of a processor, ``Model`` of a board such as the Raspberry Pi.
_NAME = re.compile(r"^(?:model name|Model)\s*:\s*(.*\S)", re.MULTILINE)


def device_of(tensors: Iterable[torch.Tensor]) -> torch.device:
    """Return the device of the first tensor that is on an accelerator, or the CPU if no tensor is on one."""
    devices = (tensor.device for tensor in tensors)
    return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))


def describe_hardware(device: torch.device) -> str:
    """Return the hardware's name according to its driver or the operating system, such as "NVIDIA A100-SXM4-80GB"."""
    return " ".join((_processor() if device.type == "cpu" else _accelerator(device)).split())


def machine_name(device: torch.device, threads: int) -> str:
    """Return the name of the hardware. The name of a CPU is followed by the number of threads.

    Keys such as ``latency[NAME]`` contain this name, so it contains no square brackets.
    """
    name = describe_hardware(device).translate(str.maketrans("[]", "()"))
    return f"{name} x {threads}" if device.type == "cpu" else name


def _processor() -> str:
    return _named_in(_PROCESSORS) or _read(_BOARD).strip("\0 \n") or platform.processor() or platform.machine() or "cpu"


def _named_in(file: Path) -> str:
    found = _NAME.search(_read(file))
    return found.group(1) if found else ""


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _accelerator(device: torch.device) -> str:
    # A backend has one of two functions that return its name, or none.
    backend = getattr(torch, device.type, None)
    ask = getattr(backend, "get_device_name", None)
    if callable(ask):
        return str(ask(device))
    ask = getattr(getattr(torch.backends, device.type, None), "get_name", None)
    return str(ask()) if callable(ask) else device.type
