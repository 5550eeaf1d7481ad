"""Tests on a disk of a few KiB. Only `make torture` runs them, because only the root user can mount the disk."""

from __future__ import annotations

import subprocess

import pytest
from entries import net

from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.storage.baseline import BaselineFile, change, load, save, update_entries


@pytest.fixture(params=["16k", "32k", "64k"])
def disk(tmp_path, request):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_full(disk):
    """If the disk is full, the last baseline that was written can still be read."""
    path = disk / "__flops__" / "test_net.json"

    added = 0

    def fill():
        nonlocal added
        while True:
            test_id = f"test_{added}"
            change(path, lambda file, test_id=test_id: update_entries(file, {test_id: {"model": net()}}))
            added += 1

    with pytest.raises(BaselineError) as caught:
        fill()
    assert str(caught.value) == f"{path}: cannot be written: No space left on device. The file is as it was."
    assert load(path).tests.keys() == {f"test_{number}" for number in range(added)}
    assert added > 1
    assert [*path.parent.iterdir()] == [path]
    # When there is room again, writing works.
    save(BaselineFile(path, {"test_0": {"model": net()}}))
