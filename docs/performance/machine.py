"""Describe the machine of the benchmark, without its host name."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from peers.counters import COUNTERS

_CPUS = Path("/proc/cpuinfo")


def machine() -> dict[str, str]:
    counters = dict.fromkeys(counter.package for counter in COUNTERS.values())
    packages = dict.fromkeys([*counters, "transformers", "diffusers", "pytest"])
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()}, {platform.machine()}",
        "Python": platform.python_version(),
        "threads of PyTorch": str(torch.get_num_threads()),
        "packages": ", ".join(f"{package} {version(package)}" for package in packages),
    }


def _processor() -> str:
    if _CPUS.exists():
        for line in _CPUS.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
