"""Measure how much the memory of a process grows."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
#: Written to clear_refs, this resets the peak to the memory that is resident now (proc_pid_clear_refs(5)).
_PEAK = "5"
#: ru_maxrss is in KiB on Linux and in bytes on macOS.
_UNIT = 1 if sys.platform == "darwin" else 1024


class Growth:
    """Measures by how many bytes the peak of resident memory exceeds the resident memory at the start."""

    def __init__(self) -> None:
        # The peak of building the model would hide later, smaller peaks.
        if _FORGET.exists():
            _FORGET.write_text(_PEAK)
        self._before = _peak()

    def bytes(self) -> int:
        return _peak() - self._before


def _peak() -> int:
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
    return resident("VmHWM")


def resident(field: str = "VmRSS") -> int:
    """Return the resident memory of this process in bytes. With "VmHWM", return its peak. Works only on Linux."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
