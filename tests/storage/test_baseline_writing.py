"""If a baseline cannot be written, the old file stays as it was."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import filelock
import pytest
from baseline_process import Writer
from entries import net, width_of

from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.storage import atomic_file, baseline
from pytest_flopsbudget.storage.baseline import BaselineFile, change, load, save, update_entries

pytestmark = pytest.mark.skipif(os.name == "nt", reason="rights, limits and signals of POSIX")


@pytest.fixture
def path(tmp_path):
    """Write a baseline of one test, and return its path."""
    path = tmp_path / "__flops__" / "test_net.json"
    save(BaselineFile(path, {"test_a": {"model": net()}}))
    return path


def add(path, test_id="test_b", width=2):
    return change(path, lambda file: update_entries(file, {test_id: {"model": net(width)}}))


def widths(path):
    return {test_id: width_of(entries) for test_id, entries in load(path).tests.items()}


def refused(path):
    """Check that an update fails and changes no file. Return its message."""
    folder = path.parent
    before = {entry: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()} if folder.is_dir() else {}
    with pytest.raises(BaselineError) as caught:
        add(path)
    after = {entry: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()} if folder.is_dir() else {}
    assert after == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@contextlib.contextmanager
def largest_file(size):
    """Let no file grow beyond ``size`` bytes, as on a full disk."""
    import resource

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@contextlib.contextmanager
def without_privileges():
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def open_path():
    """Write a baseline in a folder that each user may enter, and return the path of the baseline."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    path = folder / "__flops__" / "test_net.json"
    save(BaselineFile(path, {"test_a": {"model": net()}}))
    if os.geteuid() == 0:
        for entry in (folder, path.parent, path):
            os.chown(entry, 65534, 65534)
    yield path
    for entry in (path.parent, path):
        if entry.exists():
            entry.chmod(0o755)
    shutil.rmtree(folder)


class TestDisk:
    def test_full(self, path):
        """If the disk becomes full at any byte, the update changes nothing."""
        copy = path.with_name("copy.json")
        shutil.copy(path, copy)
        add(copy)
        size = copy.stat().st_size
        copy.unlink()
        for limit in range(0, size, 37):
            with largest_file(limit):
                message = refused(path)
            assert message == f"{path}: cannot be written: File too large. The file is as it was."
        with largest_file(size):
            assert add(path)

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_fails(self, path, monkeypatch, number, step):
        def fail(*_, **__):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fail) if step == "fsync" else monkeypatch.setattr(Path, "replace", fail)
        assert f"cannot be written: {os.strerror(number)}. The file is as it was." in refused(path)


class TestRights:
    def test_read_only_folder(self, open_path):
        open_path.parent.chmod(0o555)
        with without_privileges():
            message = refused(open_path)
        assert message == f"{open_path}: cannot be written: Permission denied. The file is as it was."

    def test_read_only_file(self, open_path):
        open_path.chmod(0o444)
        with without_privileges():
            message = refused(open_path)
        assert message == f"{open_path}: cannot be written: it is read-only. The file is as it was."

    def test_unreadable_file(self, open_path):
        open_path.chmod(0)
        with without_privileges(), pytest.raises(BaselineError, match="cannot be read: Permission denied"):
            add(open_path)

    def test_nothing_to_change_in_a_read_only_folder(self, open_path):
        open_path.parent.chmod(0o555)
        with without_privileges():
            assert not add(open_path, "test_a", 1)


class TestPlaces:
    def test_folder_is_a_symbolic_link(self, path, tmp_path):
        elsewhere = tmp_path / "elsewhere"
        path.parent.rename(elsewhere)
        path.parent.symlink_to(elsewhere)
        assert add(path)
        assert path.parent.is_symlink()
        assert [*elsewhere.iterdir()] == [elsewhere / path.name]
        assert widths(elsewhere / path.name) == {"test_a": 1, "test_b": 2}

    def test_folder_is_a_symbolic_link_that_leads_nowhere(self, path):
        shutil.rmtree(path.parent)
        path.parent.symlink_to("nowhere")
        assert "cannot be written: __flops__ beside the tests is a symbolic link that leads nowhere." in refused(path)
        assert not path.parent.exists()

    def test_file_is_a_symbolic_link_that_leads_nowhere(self, path):
        path.unlink()
        path.symlink_to(path.parent / "other.json")
        assert add(path)
        assert widths(path.parent / "other.json") == {"test_b": 2}

    def test_file_is_a_symbolic_link_to_itself(self, path):
        path.unlink()
        path.symlink_to(path)
        assert "cannot be read: Too many levels of symbolic links" in refused(path)

    def test_tests_have_vanished(self, path, tmp_path):
        gone = tmp_path / "gone" / "__flops__" / path.name
        assert "cannot be written: No such file or directory. The file is as it was." in refused(gone)
        assert not gone.parent.parent.exists()

    def test_folder_vanishes_meanwhile(self, path, monkeypatch):
        real = atomic_file.replace_file

        def vanish(target, data):
            shutil.rmtree(target.parent)
            real(target, data)

        monkeypatch.setattr(atomic_file, "replace_file", vanish)
        with pytest.raises(BaselineError, match="cannot be written: No such file or directory"):
            add(path)

    def test_a_folder_in_the_place_of_the_file(self, path):
        path.unlink()
        path.mkdir()
        assert "cannot be read: Is a directory" in refused(path)

    def test_longest_name(self, path):
        longest = path.with_name(f"{'n' * 250}.json")
        assert add(longest)
        assert widths(longest) == {"test_b": 2}

    def test_too_long_a_name(self, path):
        assert "cannot be read: File name too long" in refused(path.with_name(f"{'n' * 251}.json"))


class TestLeftovers:
    @pytest.mark.parametrize("width", [1, 2], ids=["unchanged", "changed"])
    def test_are_removed(self, path, width):
        """An update removes temporary files that killed processes left for its baseline."""
        name = f"{atomic_file._prefix(path)}01234567.tmp"
        other = f"{atomic_file._prefix(path.with_name('test_other.json'))}01234567.tmp"
        for left in (name, other, ".mine.tmp"):
            path.with_name(left).write_text("half")
        add(path, "test_a", width)
        assert {entry.name for entry in path.parent.iterdir()} == {path.name, other, ".mine.tmp"}


class TestRemoval:
    def test_nothing_left(self, path):
        assert change(path, lambda file: BaselineFile(file.path, {}))
        assert [*path.parent.iterdir()] == []

    def test_nothing_there(self, tmp_path):
        assert not change(tmp_path / "__flops__" / "test_net.json", lambda file: file)
        assert [*tmp_path.iterdir()] == []


@pytest.fixture(params=["folder", "stand-in"])
def lock(request, monkeypatch):
    """Run the test with a lock on the folder, and again with a lock on a temporary file."""
    if request.param == "stand-in":

        def fail(*_, **__):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

        monkeypatch.setattr(filelock, "lock_descriptor", fail)


class TestLock:
    def test_waits_for_the_other(self, path, lock):
        """If two changes of a baseline happen at the same time, both changes are kept."""
        held, go_on = threading.Event(), threading.Event()

        def slow(file):
            # The second call has the lock, because the file changed after the first call.
            if not held.is_set():
                held.set()
                assert go_on.wait(10)
            return update_entries(file, {"test_slow": {"model": net()}})

        thread = threading.Thread(target=change, args=(path, slow))
        thread.start()
        assert held.wait(10)
        add(path)
        go_on.set()
        thread.join()
        assert widths(path) == {"test_a": 1, "test_b": 2, "test_slow": 1}

    def test_does_not_wait_for_ever(self, path, lock, monkeypatch):
        """If another process holds the lock for too long, the update fails."""
        monkeypatch.setattr(baseline, "LOCK_SECONDS", 0.05)
        with atomic_file.locked(path.parent, 1):
            message = refused(path)
        assert "has been writing beside it for" in message
        assert message.endswith("The file is as it was; end that process and run again.")

    @pytest.mark.skipif(sys.platform != "linux", reason="/proc/locks")
    def test_names_the_process(self, path, monkeypatch):
        monkeypatch.setattr(baseline, "LOCK_SECONDS", 0.05)
        writer = Writer("hold", path)
        message = refused(path)
        writer.begin()
        writer.end()
        assert f"process {writer.process.pid} has been writing beside it" in message

    def test_a_killed_holder_lets_go(self, path):
        Writer("hold", path).kill()
        assert add(path)

    def test_another_folder_is_another_lock(self, path, tmp_path, lock):
        other = tmp_path / "other" / "__flops__" / "test_net.json"
        other.parent.parent.mkdir()
        with atomic_file.locked(path.parent, 1):
            assert add(other)

    def test_stand_in_lies_where_temporary_files_do(self, path):
        """The lock file is in the system's temporary folder, not beside the tests."""
        assert atomic_file._stand_in(path.parent).parent == Path(tempfile.gettempdir())
