import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from build import laws
from msgspec.structs import replace
from samples import GitProject, linear, report, reported_test, write_baseline

from pytest_flopsbudget.storage.report_file import save


@pytest.fixture
def project(command, tmp_path):
    """Return a git repository with a branch in which one test became more expensive, one is new and one is gone."""
    project = GitProject(tmp_path / "here")
    project.commit("Main", {"tests/test_a.py": {"t": linear(4), "gone": linear(9)}, "test_b.py": {"u": linear(2)}})
    project.git("switch", "-q", "-c", "branch")
    project.commit("Branch", {"tests/test_a.py": {"t": linear(5), "come": linear(8)}})
    return project


def verdicts(lines):
    """Return {measurement: verdict} for each described measurement and each row of a table in the output."""
    found = {}
    in_table = False
    for line in lines:
        described = re.fullmatch(r"(\S+): (regressed|improved|changed)", line)
        if line.startswith("──"):
            in_table = True
        elif not line:
            in_table = False
        elif described:
            found[described[1]] = described[2]
        elif in_table:
            found[line.split()[0]] = line.split()[-1]
    return found


BRANCH = {
    "tests/test_a.py::t": "regressed",
    "tests/test_a.py::come": "new",
    "tests/test_a.py::gone": "removed",
}


class TestRevisions:
    @pytest.mark.parametrize(
        "argv", [["main..HEAD"], ["main..branch"], ["main.."], ["main...branch"], ["main", "branch"], ["main"]]
    )
    def test_of_a_branch(self, project, command, argv):
        lines = command("diff", *argv)
        assert verdicts(lines) == BRANCH
        assert lines[-1] == "4 measurements: 1 regressed, 1 new, 1 removed, 1 unchanged"
        assert command.code == 0

    def test_the_other_way_round(self, project, command):
        assert verdicts(command("diff", "branch..main"))["tests/test_a.py::t"] == "improved"

    def test_with_three_dots_it_is_what_the_branch_did(self, project, command):
        project.git("switch", "-q", "main")
        project.commit("Meanwhile", {"test_b.py": {"u": linear(3)}})
        assert verdicts(command("diff", "main...branch")) == BRANCH
        assert verdicts(command("diff", "main..branch")) == BRANCH | {"test_b.py::u": "improved"}

    def test_what_is_not_committed(self, project, command):
        assert command("diff")[-1] == "3 measurements: 3 unchanged"
        write_baseline(project.path / "test_b.py", {"u": linear(3)})
        lines = command("diff")
        assert lines[0] == "HEAD → the working tree"
        assert verdicts(lines) == {"test_b.py::u": "regressed"}

    def test_a_new_file_and_a_removed_one(self, project, command):
        write_baseline(project.path / "test_new.py", {"n": linear(7)})
        (project.path / "__flops__/test_b.json").unlink()
        assert verdicts(command("diff")) == {"test_new.py::n": "new", "test_b.py::u": "removed"}

    def test_from_a_folder_below_only_what_is_below_it(self, project, command, monkeypatch):
        monkeypatch.chdir(project.path / "tests")
        assert list(verdicts(command("diff", "main"))) == ["test_a.py::t", "test_a.py::come", "test_a.py::gone"]

    def test_a_damaged_file_of_a_revision(self, project, command):
        (project.path / "__flops__/test_b.json").write_text("{\n", encoding="utf-8")
        project.commit("Break it")
        (project.path / "__flops__/test_b.json").unlink()
        assert command("diff", "HEAD") == []
        assert command.code == 2
        assert command.errors.startswith("error: HEAD:__flops__/test_b.json, line 2: ")
        assert command.errors.count("\n") == 1


class TestFiles:
    def test_two_folders(self, command):
        write_baseline(folder("old") / "test_a.py", {"t": linear(4)})
        write_baseline(folder("new") / "test_a.py", {"t": linear(5)})
        assert verdicts(command("diff", "old", "new")) == {"test_a.py::t": "regressed"}
        assert verdicts(command("diff", "old/__flops__", "new")) == {"test_a.py::t": "regressed"}

    def test_two_files_whatever_they_are_called(self, command):
        old = write_baseline(folder("old") / "test_a.py", {"t": linear(4)})
        new = write_baseline(folder("new") / "test_b.py", {"t": linear(5)})
        assert verdicts(command("diff", old, new)) == {"new/test_b.py::t": "regressed"}

    @pytest.mark.parametrize("argv", [["main", "tests/__flops__/test_a.json"], ["tests/__flops__/test_a.json"]])
    def test_one_file_is_compared_with_itself(self, project, command, argv):
        lines = command("diff", *argv)
        assert "test_b.py" not in "".join(lines)
        assert verdicts(lines) == (BRANCH if len(argv) == 2 else {})

    def test_two_reports(self, command):
        save(report(reported_test("a.py::t", linear(4)), reported_test("a.py::gone", linear(9))), Path("old.json"))
        save(report(reported_test("a.py::t", linear(5)), reported_test("a.py::u", linear(8))), Path("new.json"))
        lines = command("diff", "old.json", "new.json")
        assert lines[0] == "old.json → new.json"
        assert verdicts(lines) == {"a.py::t": "regressed", "a.py::u": "new", "a.py::gone": "removed"}

    def test_a_run_against_a_revision(self, project, command):
        """If the report lacks a test of the revision, `diff` does not show the test as removed."""
        save(report(reported_test("tests/test_a.py::t", linear(6))), Path("report.json"))
        lines = command("diff", "main", "report.json")
        assert verdicts(lines) == {"tests/test_a.py::t": "regressed"}
        assert lines[-1] == "2 more in main, which report.json does not have"


class TestOptions:
    @pytest.mark.parametrize(("argv", "code"), [(["main"], 1), ([], 0)])
    def test_the_exit_code_tells_of_differences_if_asked(self, project, command, argv, code):
        command("diff", *argv)
        assert command.code == 0
        command("diff", *argv, "--exit-code")
        assert command.code == code

    @pytest.mark.parametrize("option", ["-v", "--verbose"])
    def test_verbose(self, project, command, option):
        """The operator and the metrics that follow another one are shown only if the user asks for everything."""
        shown = [line.split()[0] for line in command("diff", "main") if line]
        everything = [line.split()[0] for line in command("diff", "main", option) if line]
        assert "flops" in shown
        assert {"aten.mm:", "param_bytes"}.isdisjoint(shown)
        assert {"flops", "aten.mm:", "param_bytes"} <= {*everything}
        assert "aten.mm: +36 FLOPs" in "\n".join(command("diff", "main", "--markdown", option))

    def test_markdown(self, project, command):
        lines = command("diff", "main..HEAD", "--markdown")
        assert lines[0] == "### Complexity: `main` → `HEAD`"
        assert "| ⬆️ | `tests/test_a.py::t` | 64 FLOPs | 100 FLOPs | +56.2% | +50.0% | regressed |" in lines

    def test_markdown_is_utf8_whatever_the_encoding_of_the_terminal_is(self, project, command, monkeypatch):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
        monkeypatch.setattr(sys, "stdout", stream)
        command("diff", "main..HEAD", "--markdown")
        assert stream.buffer.getvalue().decode("utf-8").startswith("### Complexity: `main` → `HEAD`")

    @pytest.mark.parametrize(
        ("variables", "argv", "coloured"),
        [
            ({}, [], False),
            ({"FORCE_COLOR": "1"}, [], True),
            ({"FORCE_COLOR": "1"}, ["--no-color"], False),
            ({"FORCE_COLOR": "1"}, ["--no-color", "first"], False),
            ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, [], False),
        ],
    )
    def test_colour(self, project, command, monkeypatch, *, variables, argv, coloured):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        words = ["--no-color", "diff", "main"] if "first" in argv else ["diff", "main", *argv]
        assert any("\x1b[" in line for line in command(*words)) == coloured


def folder(name):
    path = Path(name)
    path.mkdir()
    return path


class TestMistakes:
    @pytest.mark.parametrize(
        ("argv", "told"),
        [
            (
                ["mian"],
                "mian: no such file, folder or revision; give a report, a baseline, a folder, a branch or a commit",
            ),
            (["mian..HEAD"], "mian: no such file, folder or revision"),
            (["main...mian"], "mian: no such file, folder or revision"),
            (["gone.json"], "gone.json: no such file"),
            (["empty"], "empty: there are no baselines in this folder, nor below it"),
            (["main", "broken.json"], "broken.json, line 1: "),
            (["main", "--markdwon"], "no option '--markdwon'; did you mean --markdown?"),
            (["a", "b", "c"], "one argument too many: 'c'"),
        ],
    )
    def test_one_line(self, project, command, argv, told):
        folder("empty")
        Path("broken.json").write_text("{", encoding="utf-8")
        assert command("diff", *argv) == []
        assert told in command.errors
        assert command.errors.count("\n") == 1
        assert command.code == 2

    def test_no_repository(self, command):
        command("diff")
        assert "not a git repository" in command.errors
        command("diff", "main")
        assert command.errors == (
            "error: main: no such file or folder, and this is no git repository, where it might be a revision\n"
        )

    def test_branches_without_a_common_commit(self, project, command):
        project.git("switch", "-q", "--orphan", "alone")
        project.commit("Alone")
        command("diff", "main...alone")
        assert command.code == 2
        assert "have no common ancestor" in command.errors


class TestShallowClone:
    """If a shallow clone lacks a commit, the error says how to fetch the commit."""

    @pytest.fixture
    def clone(self, project, monkeypatch, tmp_path):
        """Return a function that makes a shallow clone, which has only the newest commit of each branch."""
        project.git("switch", "-q", "main")
        project.commit("Meanwhile", {"test_b.py": {"u": linear(3)}})
        project.git("switch", "-q", "branch")

        def clone(*options):
            project.git("clone", "-q", "--depth", "1", *options, project.path.as_uri(), str(tmp_path / "clone"))
            monkeypatch.chdir(tmp_path / "clone")

        return clone

    @pytest.mark.parametrize(
        ("options", "argv", "missing"),
        [
            (["--no-single-branch"], "origin/main...HEAD", "have no common ancestor here; "),
            ([], "origin/main...HEAD", "origin/main: no such file, folder or revision; "),
            ([], "origin/main", "origin/main: no such file, folder or revision; "),
            ([], "HEAD~1..HEAD", "HEAD~1: no such file, folder or revision; "),
        ],
    )
    def test_says_how_to_fetch_the_rest(self, clone, command, options, argv, missing):
        clone(*options)
        assert command("diff", argv) == []
        assert f"{missing}this clone is shallow: its history is cut off. " in command.errors
        assert "`fetch-depth: 0`" in command.errors
        assert command.errors.count("\n") == 1

    @pytest.mark.parametrize("argv", ["origin/main...HEAD", "HEAD~1..HEAD"])
    def test_the_advice_works(self, clone, command, argv):
        clone()
        command("diff", argv)
        subprocess.run(shlex.split(command.errors.partition("run: ")[2]), check=True)
        assert verdicts(command("diff", argv)) == BRANCH

    def test_what_is_there_is_compared(self, clone, command):
        clone("--no-single-branch")
        assert verdicts(command("diff", "origin/main..HEAD")) == BRANCH | {"test_b.py::u": "improved"}


def test_a_repository_without_commits(command):
    subprocess.run(["git", "init", "-q"], check=True)
    assert command("diff") == []
    assert command.errors == "error: there is no commit in this repository yet\n"


def test_a_changed_law(command, tmp_path):
    project = GitProject(tmp_path / "here")
    for factor in (2, 4):
        found = laws({"n": range(1, 65)}, {"flops": {"n^2": factor, "n": 9}}, {"attn": {"flops": {"n^2": factor}}})
        project.commit(f"Factor {factor}", {"test_a.py": {"t": replace(linear(4), laws=found)}})
    lines = command("diff", "HEAD~1..HEAD")
    start = lines.index("test_a.py::t: regressed")
    # The values are of the largest sizes, and equal.
    assert lines[start + 1 : start + 6] == [
        "  flops regressed: 2*n^2 \u2192 4*n^2 (+100.0%); n: unchanged",
        "      2*n^2 + 9*n \u2192 4*n^2 + 9*n, compared exactly for n = 1 ... 64",
        "      first more at n = 1: 11 \u2192 13",
        "      at n = 64: 8.768 kFLOPs \u2192 16.96 kFLOPs, +8.192 kFLOPs (+93.4%)",
        "      in attn: 2*n^2 \u2192 4*n^2",
    ]
    assert "flops regressed: 2*n^2" in "\n".join(command("diff", "HEAD~1..HEAD", "--markdown"))


def test_another_range(command, tmp_path):
    project = GitProject(tmp_path / "here")
    for last in (64, 128):
        found = laws({"n": range(1, last + 1)}, {"flops": {"n": 9}})
        project.commit(f"Up to {last}", {"test_a.py": {"t": replace(linear(4), laws=found)}})
    lines = command("diff", "HEAD~1..HEAD")
    assert "test_a.py::t: changed" in lines
    assert (
        "  another range: n = 1 ... 64 \u2192 n = 1 ... 128; laws are compared only for sizes that both have" in lines
    )
