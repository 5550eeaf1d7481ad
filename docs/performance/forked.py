"""Copy the memory that a forked process shares with its parent, before the process measures a time.

A forked process copies a page of memory when it first writes to this page. These copies would take time during the
measurement.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_MAPS = Path("/proc/self/maps")
#: Linux 5.14: enter all pages into the page tables, for reading or for writing (madvise(2)).
_POPULATE_READ, _POPULATE_WRITE = 22, 23


def own_memory() -> bool:
    """Copy all private memory that is writable. Return whether the system can do this."""
    if sys.platform != "linux" or not _MAPS.exists():
        return False
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    done = False
    for line in _MAPS.read_text().splitlines():
        addresses, permissions, *_ = line.split()
        start, end = (int(address, 16) for address in addresses.split("-"))
        if permissions.startswith("rw") and permissions.endswith("p"):
            done |= advise(start, end - start, _POPULATE_WRITE) == 0
        elif permissions.startswith("r"):
            advise(start, end - start, _POPULATE_READ)
    return done
