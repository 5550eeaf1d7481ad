"""Start a process that runs baseline_writer.py, and end or kill it."""

from __future__ import annotations

import subprocess
import sys

from paths import TESTS

WRITER = TESTS / "baseline_writer.py"


class Writer:
    """A running process of baseline_writer.py."""

    def __init__(self, *args):
        self.process = subprocess.Popen(
            [sys.executable, WRITER, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def begin(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        return self.end()

    def end(self):
        self.process.communicate()
        return self.process.returncode
