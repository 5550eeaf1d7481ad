import os
import stat
from pathlib import Path

import pytest
from samples import linear, write_baseline

from pytest_flopsbudget.identifiers import baseline_path
from pytest_flopsbudget.storage.baseline import load

FILE, OTHER = Path("tests/test_a.py"), Path("tests/sub/test_b.py")


@pytest.fixture(autouse=True)
def tests_folder(command):
    for file in (FILE, OTHER):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def entries(file=FILE):
    """Return {test id: width of its layer}."""
    return {
        test_id: int(measured["model"].modules["layer"].shape.partition("-")[0])
        for test_id, measured in load(baseline_path(file)).tests.items()
    }


def test_within_a_file(command):
    path = write_baseline(FILE, {"test_old": linear(4), "test_x": linear(5)})
    assert command("rename", f"{FILE}::test_old", f"{FILE}::test_new") == [
        f"{FILE}::test_old → {FILE}::test_new",
        f"baseline written: {path}",
    ]
    assert command.code == 0
    assert entries() == {"test_new": 4, "test_x": 5}


def test_the_entry_is_as_it_was(command):
    write_baseline(FILE, {"test_old": {"small": linear(4), "large": linear(40)}})
    before = load(baseline_path(FILE)).tests["test_old"]
    command("rename", f"{FILE}::test_old", f"{FILE}::test_new")
    assert load(baseline_path(FILE)).tests == {"test_new": before}


def test_to_another_file(command):
    write_baseline(FILE, {"test_a": linear(4), "test_x": linear(5)})
    write_baseline(OTHER, {"test_y": linear(6)})
    command("rename", f"{FILE}::test_a", f"{OTHER}::test_b")
    assert entries() == {"test_x": 5}
    assert entries(OTHER) == {"test_b": 4, "test_y": 6}


def test_the_last_entry_of_a_file_takes_the_file_along(command):
    path = write_baseline(FILE, {"test_a": linear(4)})
    lines = command("rename", f"{FILE}::test_a", f"{OTHER}::test_a")
    assert not path.exists()
    assert lines[1:] == [
        f"baseline written: {baseline_path(OTHER)}",
        f"baseline removed, since it is empty: {path}",
    ]


def test_a_function_with_its_parameters(command):
    write_baseline(FILE, {"test_a[1]": linear(1), "test_a[2]": linear(2), "test_ab[1]": linear(3)})
    command("rename", f"{FILE}::test_a", f"{FILE}::test_c")
    assert entries() == {"test_ab[1]": 3, "test_c[1]": 1, "test_c[2]": 2}


def test_one_parameter_set(command):
    write_baseline(FILE, {"test_a[1]": linear(1), "test_a[2]": linear(2)})
    command("rename", f"{FILE}::test_a[1]", f"{FILE}::test_a[one]")
    assert entries() == {"test_a[2]": 2, "test_a[one]": 1}


def test_a_class(command):
    write_baseline(FILE, {"TestA::test_x": linear(1), "TestA::TestB::test_y": linear(2), "TestAB::test_z": linear(3)})
    command("rename", f"{FILE}::TestA", f"{FILE}::TestC")
    assert entries() == {"TestAB::test_z": 3, "TestC::TestB::test_y": 2, "TestC::test_x": 1}


@pytest.mark.parametrize("name", ["tests/test_a.py", "tests/../tests/test_a.py"])
def test_a_new_name_that_is_another_ones_old_name(command, name):
    """If a new name is the old name of another entry, `rename` loses no entry."""
    write_baseline(FILE, {"TestA::test_x": linear(1), "TestA::TestA::test_x": linear(2)})
    command("rename", f"{FILE}::TestA", f"{name}::TestA::TestA")
    assert entries() == {"TestA::TestA::test_x": 1, "TestA::TestA::TestA::test_x": 2}


def test_a_file_that_moved(command):
    write_baseline(FILE, {"test_a": linear(1), "test_b": linear(2)})
    FILE.unlink()
    command("rename", FILE, OTHER)
    assert entries(OTHER) == {"test_a": 1, "test_b": 2}
    assert not baseline_path(FILE).exists()


def test_a_path_with_dots(command):
    write_baseline(FILE, {"test_a": linear(1)})
    command("rename", f"./{FILE}::test_a", f"{FILE}::test_b")
    assert entries() == {"test_b": 1}


@pytest.mark.parametrize("name", ["tests/../tests/test_a.py", "link/test_a.py"])
def test_a_file_that_goes_by_two_names(command, name):
    Path("link").symlink_to("tests")
    write_baseline(FILE, {"test_a": linear(1), "test_x": linear(2)})
    command("rename", f"{FILE}::test_a", f"{name}::test_b")
    assert entries() == {"test_b": 1, "test_x": 2}


def test_swapping_names_is_refused(command):
    path = write_baseline(FILE, {"test_a": linear(1), "test_b": linear(2)})
    before = path.read_bytes()
    assert command("rename", f"{FILE}::test_a", f"{FILE}::test_b") == []
    assert command.code == 2
    assert command.errors == (
        f"error: {FILE}::test_b has a baseline already, in {path}. To drop the old one instead, run "
        "pytest --flops-budget-prune\n"
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (f"{FILE}::test_aa", f"{FILE}::x", f"no such entry in tests/__flops__/test_a.json; near ones: {FILE}::test_a"),
        ("tests/test_c.py::t", f"{FILE}::x", "there is no baseline tests/__flops__/test_c.json; beside it"),
        (f"{FILE}::test_a", "tests/test_c.py::x", "tests/test_c.py: no such test file here"),
        (f"{FILE}::test_a", f"{FILE}::test_a", "is the old name and the new one"),
        (f"{FILE}::test_a", f"./{FILE}::test_a", "is the old name and the new one"),
        (f"{FILE}::test_a", f"{OTHER}", "is a test and tests/sub/test_b.py a file"),
        (f"{FILE}::", f"{FILE}::x", "is no node id"),
        ("test_a", "test_b", "names no test file"),
        ("::test_a", f"{FILE}::test_b", "is no test file"),
        ("", "", "names no test file"),
    ],
)
def test_mistakes_are_one_line(command, old, new, told):
    path = write_baseline(FILE, {"test_a": linear(1), "test_b": linear(2)})
    before = path.read_bytes()
    assert command("rename", old, new) == []
    assert command.code == 2
    assert told in command.errors
    assert command.errors.count("\n") == 1
    assert path.read_bytes() == before


def test_a_damaged_file_is_told_and_kept(command):
    path = write_baseline(FILE, {"test_a": linear(1)})
    path.write_text("{", encoding="utf-8")
    command("rename", f"{FILE}::test_a", f"{FILE}::test_b")
    assert command.code == 2
    assert command.errors.startswith(f"error: {path}, line 1: ")
    assert path.read_text(encoding="utf-8") == "{"


@pytest.mark.parametrize("readonly", [FILE, OTHER])
def test_a_file_that_cannot_be_written_loses_nothing(command, readonly, monkeypatch):
    write_baseline(FILE, {"test_a": linear(1), "test_x": linear(3)})
    write_baseline(OTHER, {"test_b": linear(2)})
    path = baseline_path(readonly)
    path.chmod(stat.S_IREAD)
    access = os.access
    # The root user may write to read-only files, so `os.access` is patched.
    monkeypatch.setattr(
        os, "access", lambda name, mode: access(name, mode) and not (mode == os.W_OK and Path(name) == path.resolve())
    )
    command("rename", f"{FILE}::test_a", f"{OTHER}::test_a")
    assert command.code == 2
    assert f"{path}: cannot be written: it is read-only" in command.errors
    assert 1 in entries().values()
