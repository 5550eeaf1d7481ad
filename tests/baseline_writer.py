"""A script that writes baselines. Tests start it as a process, and may kill it.

The first argument of the command line names the function that the script runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from entries import net

from pytest_flopsbudget.storage import atomic_file
from pytest_flopsbudget.storage.baseline import BaselineFile, change, update_entries


def ready():
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def many(width, count):
    """Return ``count`` tests for a baseline. Each test has one measurement: a `net` of this width."""
    return {f"test_{number:05}": {"model": net(width)} for number in range(count)}


def back_and_forth(path, count):
    """Write two baselines alternately, until the process is killed."""
    contents = [many(width, count) for width in (1, 2)]
    ready()
    while True:
        for tests in contents:
            change(path, lambda _, tests=tests: BaselineFile(path, tests))


def add(path, who, count):
    """Wait for a line on stdin. Then add ``count`` tests, whose ids contain ``who``, one after the other."""
    ready()
    sys.stdin.readline()
    for number in range(count):
        change(path, lambda file, number=number: update_entries(file, {f"test_{who}_{number}": {"model": net()}}))


def hold(path):
    """Hold the lock of ``path`` until the parent process writes a line to stdin."""
    with atomic_file.locked(path.parent, 10):
        ready()
        sys.stdin.readline()


if __name__ == "__main__":
    what, file, *others = sys.argv[1:]
    {
        "back-and-forth": lambda: back_and_forth(Path(file), int(others[0])),
        "add": lambda: add(Path(file), others[0], int(others[1])),
        "hold": lambda: hold(Path(file)),
    }[what]()
