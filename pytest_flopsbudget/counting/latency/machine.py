"""What the machine at hand is called: its processor, or the accelerator that a model's tensors are on."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable


#: What Linux says of the processors, and of a board that is one piece with them.
_PROCESSORS = Path("/proc/cpuinfo")
_BOARD = Path("/proc/device-tree/model")
#: The field that names a processor; on boards like the Raspberry Pi, the board.
_NAME = re.compile(r"^(?:model name|Model)\s*:\s*(.*\S)", re.MULTILINE)


def device_of(tensors: Iterable[torch.Tensor]) -> torch.device:
    """The first accelerator that one of the tensors is on; the CPU where there is none."""
    devices = (tensor.device for tensor in tensors)
    return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))


def describe_hardware(device: torch.device) -> str:
    """What its driver or the operating system calls it: "NVIDIA A100-SXM4-80GB", "AMD EPYC 7763 64-Core Processor"."""
    return " ".join((_processor() if device.type == "cpu" else _accelerator(device)).split())


def machine_name(device: torch.device, threads: int) -> str:
    """A name for machines on which a model takes the same time: of the hardware, on a CPU with the threads.

    It stands in brackets where it is part of a key, and holds none itself.
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
    # A backend says it in one of two ways, or not at all.
    backend = getattr(torch, device.type, None)
    ask = getattr(backend, "get_device_name", None)
    if callable(ask):
        return str(ask(device))
    ask = getattr(getattr(torch.backends, device.type, None), "get_name", None)
    return str(ask()) if callable(ask) else device.type
