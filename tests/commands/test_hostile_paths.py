"""Commands refuse paths that no file can have, and symbolic links that leave the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace
from samples import linear, report, reported_test, write_baseline

from pytest_flopsbudget.storage.report_file import save

FILE = Path("tests/test_a.py")
LONG = "a" * 5000
DEEP = "/".join(["folder"] * 900)


@pytest.fixture(autouse=True)
def project(command):
    FILE.parent.mkdir()
    FILE.touch()
    write_baseline(FILE, {"t": linear(4), "u": linear(6)})
    save(report(reported_test(f"{FILE}::t", linear(5), linear(4))), Path("report.json"))
    Path("folder").mkdir()


@pytest.mark.parametrize(
    "name", [LONG, f"{LONG}.json", f"{LONG}.py", DEEP, f"{DEEP}/x.py", "folder", "\ud800", f"x/{LONG}::t"]
)
@pytest.mark.parametrize(
    "argv",
    [
        ("accept", "NAME"),
        ("accept", "report.json", "--root", "NAME/x"),
        ("accept", "report.json", "NAME"),
        ("merge", "NAME", "-o", "joint.json"),
        ("merge", "report.json", "-o", "NAME"),
        ("diff", "NAME"),
        ("diff", "report.json", "NAME"),
        ("diff", "NAME..HEAD"),
        ("rename", "NAME", f"{FILE}::v"),
        ("rename", f"{FILE}::t", "NAME::v"),
        ("rename", "NAME::t", f"{FILE}::v"),
        ("rename", str(FILE), "NAME.py"),
        ("history", "NAME"),
        ("history", "--metric", "NAME"),
    ],
)
def test_a_name_that_no_file_can_have(command, argv, name):
    before = [path for path in sorted(Path().rglob("*")) if path.is_file()]
    command(*(word.replace("NAME", name) for word in argv))
    assert command.code == 2
    assert command.errors.startswith("error: ")
    assert command.errors.count("\n") == 1
    assert len(command.errors) < 2200
    assert [path for path in sorted(Path().rglob("*")) if path.is_file()] == before


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may read every file")
@pytest.mark.parametrize(
    "argv", [("accept", "report.json"), ("merge", "report.json", "-o", "x"), ("diff", "report.json")]
)
def test_a_file_that_may_not_be_read(command, argv):
    Path("report.json").chmod(0)
    command(*argv)
    assert (command.code, command.errors.count("\n")) == (2, 1)


class TestLinks:
    """Commands do not follow a link that leads out of the project, to the folder ``outside``."""

    @pytest.fixture
    def outside(self):
        folder = Path.cwd().parent / "outside"
        folder.mkdir()
        return folder

    def make_link(self, link, outside):
        """Replace the part ``link`` of the baseline's path by a symbolic link to ``outside``."""
        baseline = Path("tests/__flops__/test_a.json")
        content = baseline.read_bytes()
        if link == "file":
            (outside / "test_a.json").write_bytes(content)
            baseline.unlink()
            baseline.symlink_to(outside / "test_a.json")
        elif link == "missing file":
            baseline.unlink()
            baseline.symlink_to(outside / "test_a.json")
        elif link == "folder":
            baseline.parent.rename(outside / "__flops__")
            Path("tests/__flops__").symlink_to(outside / "__flops__")
        elif link == "folder of the tests":
            Path("tests").rename(outside / "tests")
            Path("tests").symlink_to(outside / "tests")
        elif link == "two links":
            baseline.parent.rename(outside / "__flops__")
            Path("second").symlink_to("../outside/__flops__")
            Path("tests/__flops__").symlink_to("../second")

    def content(self, outside):
        return {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}

    links = pytest.mark.parametrize("link", ["file", "missing file", "folder", "folder of the tests", "two links"])

    @links
    @pytest.mark.parametrize("options", [(), ("--force",), ("--root", ".")])
    def test_accept_writes_nothing_outside(self, command, outside, link, options):
        self.make_link(link, outside)
        before = self.content(outside)
        lines = command("accept", "report.json", *options)
        assert command.code == 1
        assert lines[0].startswith(f"not accepted: {FILE}::t: ")
        assert "a symbolic link leads out of " in lines[0]
        assert self.content(outside) == before

    @links
    def test_rename_writes_nothing_outside(self, command, outside, link):
        self.make_link(link, outside)
        before = self.content(outside)
        Path("test_b.py").touch()
        for argv in ((f"{FILE}::t", f"{FILE}::v"), (f"{FILE}::t", "test_b.py::v")):
            command("rename", *argv)
            assert command.code == 2
            assert "a symbolic link leads out of " in command.errors
        assert self.content(outside) == before
        assert not Path("__flops__").exists()

    def test_rename_follows_the_users_own_path_out(self, command, outside):
        (outside / "test_b.py").touch()
        command("rename", f"{FILE}::t", "../outside/test_b.py::t")
        assert command.code == 0
        assert (outside / "__flops__/test_b.json").exists()

    @pytest.mark.parametrize("command_name", ["accept", "rename"])
    def test_a_link_within_the_root_is_followed(self, command, command_name):
        Path("tests/__flops__").rename("kept")
        Path("tests/__flops__").symlink_to("../kept")
        argv = ["report.json"] if command_name == "accept" else [f"{FILE}::t", f"{FILE}::v"]
        command(command_name, *argv)
        assert command.code == 0
        assert Path("tests/__flops__").is_symlink()

    def test_a_root_that_is_a_link(self, command, outside):
        Path("tests").rename(outside / "tests")
        Path("project").symlink_to(outside)
        command("accept", "report.json", "--root", "project")
        assert command.code == 0

    @pytest.mark.parametrize("root", ["../outside", "../here/../outside", "/", "\0", LONG])
    def test_a_report_names_no_root_outside_of_the_repository(self, command, outside, root):
        Path(".git").mkdir()
        Path("tests").rename(outside / "tests")
        before = self.content(outside)
        written = report(reported_test(f"{FILE}::t", linear(5), linear(4)))
        save(replace(written, run=replace(written.run, root=root)), Path("report.json"))
        command("accept", "report.json")
        assert command.code == 2
        assert "none of the report's test files is here" in command.errors
        assert self.content(outside) == before
