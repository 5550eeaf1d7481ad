"""How far a process grows beyond what it is."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
#: Written to clear_refs, it sets the peak to what is resident now (proc_pid_clear_refs(5)).
_PEAK = "5"
#: ru_maxrss is in KiB on Linux and in bytes on macOS.
_UNIT = 1 if sys.platform == "darwin" else 1024


class Growth:
    """Bytes by which the peak of resident memory exceeds what was resident when this was made."""

    def __init__(self) -> None:
        # Building a model leaves a peak behind that would hide what comes after.
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
    """Resident bytes of this process, or the most there were; Linux alone tells."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
