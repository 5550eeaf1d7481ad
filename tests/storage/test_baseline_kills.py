"""If several processes write a baseline, or if one is killed, the file is still complete."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest
import without_torch
from baseline_process import Writer
from baseline_writer import many
from conftest import SOURCES
from entries import net, width_of
from long_runs import LONG, examples

from pytest_flopsbudget.storage.baseline import BaselineFile, change, dumps, load, update_entries

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

#: About 0.8 MB, so that writing takes tens of milliseconds.
COUNT = 1000


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "__flops__" / "test_net.json"
    path.parent.mkdir()
    return path


def leftovers(path):
    return [entry for entry in path.parent.iterdir() if entry != path]


def test_two_at_once(path):
    count = examples(10, of_many=50)
    writers = [Writer("add", path, who, count) for who in "ab"]
    for writer in writers:
        writer.begin()
    assert [writer.end() for writer in writers] == [0, 0]
    assert load(path).tests.keys() == {f"test_{who}_{number}" for who in "ab" for number in range(count)}
    assert leftovers(path) == []


def test_killed(path):
    contents = {dumps(BaselineFile(path, many(width, COUNT))).encode() for width in (1, 2)}
    moments = random.Random(0)  # noqa: S311 -- not for security
    seen = set()
    before = None
    for _ in range(examples(6, of_many=180)):
        writer = Writer("back-and-forth", path, COUNT)
        time.sleep(moments.uniform(0, 0.3))
        assert writer.kill() < 0
        now = path.read_bytes() if path.exists() else None
        assert now in contents | {before}
        seen.add(now)
        # The next update works, and removes temporary files.
        change(path, lambda file: update_entries(file, {"test_00000": {"model": net(3)}}))
        assert width_of(load(path).tests["test_00000"]) == 3
        assert leftovers(path) == []
        before = path.read_bytes()
    assert not LONG or contents <= seen


TESTS = """
import build
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_net(flops_budget, number):
    flops_budget(lambda: build.net(params={width}), "an input")
"""


def test_killed_run(path, tmp_path, monkeypatch):
    count = examples(100, of_many=1000)
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    test_file = tmp_path / "test_net.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--flops-budget-update"]
    command += without_torch.ARGUMENTS
    monkeypatch.setenv("PYTHONPATH", SOURCES)

    def run(width):
        test_file.write_text(TESTS.format(width=width, count=count), encoding="utf-8")
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def written(width):
        return {f"test_net[{number}]": width for number in range(count)}

    start = time.monotonic()
    output, _ = run(4).communicate()
    took = time.monotonic() - start
    assert f"{count} passed" in output
    moments = random.Random(1)  # noqa: S311 -- not for security
    for number in range(examples(1, of_many=20)):
        before = path.read_bytes()
        width = number + 5
        process = run(width)
        if number % 2 == 0:
            while process.poll() is None and not leftovers(path):
                time.sleep(0.0005)
            time.sleep(moments.uniform(0, 0.02))
        else:
            time.sleep(moments.uniform(0, took))
        process.kill()
        process.communicate()
        if path.read_bytes() != before:
            assert {test_id: width_of(entries) for test_id, entries in load(path).tests.items()} == written(width)
