import io
import sys

import pytest
from build import laws
from msgspec.structs import replace
from samples import GitProject, linear, write_baseline
from timed import estimated

TEST = "tests/test_a.py::test_x"


@pytest.fixture
def project(command, tmp_path):
    return GitProject(tmp_path / "here")


def history(project, *widths, file="tests/test_a.py", test="test_x"):
    """Commit a baseline for each width. Return the short hashes of the commits."""
    return [
        project.commit(f"Width {width}", {file: {test: linear(width)}}, date=f"2026-01-{number:02}")
        for number, width in enumerate(widths, 1)
    ]


def rows(lines):
    start = next(number for number, line in enumerate(lines) if line.startswith("commit"))
    cells = (line.split() for line in lines[start + 2 :] if line)
    return [tuple(row) for row in cells if len(row) > 3]


def test_a_chart_and_a_table(project, command):
    first, second, third = history(project, 4, 6, 5)
    # Widths 4, 6 and 5: 2·2·4² = 64, 144 and 100 FLOPs; 20, 42 and 30 parameters. In the chart, 100 is nearest to the
    # row of 104.
    assert command("history", TEST) == [
        TEST,
        "",
        "144 FLOPs ┤        ╭───────╮",
        "          ┤        │       │",
        "          ┤        │       │",
        "104 FLOPs ┤        │       ╰───────",
        "          ┤        │",
        "          ┤        │",
        " 64 FLOPs ┤────────╯",
        "           2026-01-01    2026-01-03",
        "",
        "commit   date            FLOPs   change  params  subject",
        "────────────────────────────────────────────────────────────────────────────────────────────────────",
        f"{third}  2026-01-03  100 FLOPs   -30.6%      30  Width 5",
        f"{second}  2026-01-02  144 FLOPs  +125.0%      42  Width 6",
        f"{first}  2026-01-01   64 FLOPs      new      20  Width 4",
    ]
    assert command.code == 0


def test_commits_that_left_the_value_are_left_out(project, command):
    first, _, third = history(project, 4, 4, 5)
    project.commit("Nothing of ours")
    assert [row[0] for row in rows(command("history", TEST))] == [third, first]


def test_commits_that_touched_the_file_are_shown_if_all_are(project, command):
    first = project.commit("One", {"a.py": {"t": linear(4), "u": linear(1)}})
    second = project.commit("Two", {"a.py": {"t": linear(4), "u": linear(2)}})
    assert [(row[0], row[4]) for row in rows(command("history", "a.py::t", "--all"))] == [(second, "="), (first, "new")]


def test_a_change_of_the_parameters_alone(project, command):
    history(project, 4)
    project.commit("Same FLOPs", {"tests/test_a.py": {"test_x": linear(8, batch=1, extra=-64)}})
    # The FLOPs are 2·1·8² - 64 = 64, as before; the parameters are 8² + 8 = 72.
    (row, _) = rows(command("history", TEST))
    assert row[2:6] == ("64", "FLOPs", "=", "72")


def test_a_time(project, command):
    """`history` says in the title that a time is an estimate."""
    for number, memory in enumerate((300, 500), 1):
        project.commit(
            f"{memory}", {"tests/test_a.py": {"test_x": estimated(memory=memory)}}, date=f"2026-01-0{number}"
        )
    lines = command("history", TEST, "--metric", "time[A100]")
    assert any("est. time A100" in line for line in lines)
    assert [row[2:5] for row in rows(lines)] == [(">=1.6", "us", "+14.3%"), (">=1.4", "us", "new")]


def test_another_metric(project, command):
    history(project, 4, 6)
    lines = command("history", TEST, "--metric", "macs")
    assert [row[2:5] for row in rows(lines)] == [("72", "MACs", "+125.0%"), ("32", "MACs", "new")]
    assert any(line.startswith("72 MACs") for line in lines)


def test_the_newest_rows(project, command):
    *_, third, fourth = history(project, 4, 5, 6, 7)
    lines = command("history", TEST, "--limit", "2")
    assert [row[0] for row in rows(lines)[:2]] == [fourth, third]
    # The change is relative to the previous row, which is not shown: from 2·2·5² = 100 to 144 FLOPs.
    assert rows(lines)[1][4] == "+44.0%"
    assert lines[-1] == "2 earlier ones; --limit 0 shows all"
    assert len(rows(command("history", TEST, "--limit", "0"))) == 4


def test_what_is_not_committed(project, command):
    history(project, 4)
    write_baseline(project.path / "tests/test_a.py", {"test_x": linear(5)})
    assert rows(command("history", TEST))[0] == ("-", "100", "FLOPs", "+56.2%", "30", "(not", "committed)")


def test_a_file_that_git_does_not_know_yet(project, command):
    history(project, 4)
    write_baseline(project.path / "test_b.py", {"test_y": linear(5)})
    assert rows(command("history", "test_b.py"))[0][0] == "-"


def test_a_removed_test(project, command):
    history(project, 4, 5)
    removed = project.commit("Remove it", {"tests/test_a.py": {"test_other": linear(9)}}, date="2026-02-01")
    lines = command("history", TEST)
    assert rows(lines)[0] == (removed, "2026-02-01", "removed", "Remove", "it")
    assert len(rows(lines)) == 3


def test_a_removed_file(project, command):
    history(project, 4)
    project.git("rm", "-r", "-q", "tests")
    removed = project.commit("Remove all")
    assert rows(command("history", TEST))[0][0] == removed


def test_a_renamed_test(project, command):
    first, second = history(project, 4, 5)
    renamed = project.commit("Rename", {"tests/test_a.py": {"test_z": linear(5)}})
    (last,) = history(project, 6, test="test_z")
    lines = command("history", "tests/test_a.py::test_z")
    assert [row[0] for row in rows(lines)[:3]] == [last, second, first]
    assert lines[-1] == f"until {renamed} it was {TEST}"
    assert command("history", "test_x")[0] == "tests/test_a.py::test_z"


def test_a_moved_file(project, command):
    """If a test file was moved, its history has the commits before the move too."""
    history(project, 40)
    (project.path / "lib").mkdir()
    project.git("mv", "tests/__flops__", "lib/__flops__")
    project.git("mv", "tests/test_a.py", "lib/test_a.py")
    moved = project.commit("Move", {"lib/test_a.py": {"test_x": linear(41)}})
    lines = command("history", "lib/test_a.py")
    assert rows(lines)[0][0] == moved
    assert len(rows(lines)) >= 2
    assert lines[-1] == f"until {moved} it was {TEST}"


def test_a_merge_counts_as_what_it_brought(project, command):
    (first,) = history(project, 4)
    project.git("switch", "-q", "-c", "branch")
    for width in (5, 6):
        project.commit("On the branch", {"tests/test_a.py": {"test_x": linear(width)}})
    project.git("switch", "-q", "main")
    project.commit("Beside", {"test_b.py": {"test_y": linear(1)}})
    project.git("merge", "-q", "--no-ff", "-m", "Merge it", "branch")
    lines = command("history", TEST)
    assert [(row[0], *row[5:]) for row in rows(lines)][1] == (first, "20", "Width", "4")
    assert rows(lines)[0][6:] == ("Merge", "it")
    assert len(rows(lines)) == 2


def test_a_users_settings_of_git_change_nothing(project, command):
    history(project, 4, 5)
    project.git("switch", "-q", "-c", "branch")
    project.commit("On the branch", {"tests/test_a.py": {"test_x": linear(6)}})
    project.git("switch", "-q", "main")
    project.git("merge", "-q", "--no-ff", "-m", "Merge it", "branch")
    expected = command("history", TEST)
    settings = {
        "log.diffMerges": "combined", "log.showSignature": "true", "log.showRoot": "false", "log.date": "relative",
        "log.abbrevCommit": "true", "diff.renames": "false", "color.ui": "always", "core.abbrev": "12",
        "format.pretty": "oneline", "log.follow": "true", "diff.noprefix": "true", "core.quotePath": "true",
    }  # fmt: skip
    for name, value in settings.items():
        project.git("config", name, value)
    assert [row[1:] for row in rows(command("history", TEST))] == [row[1:] for row in rows(expected)]


def test_a_revision_that_cannot_be_read_is_named_and_passed_over(project, command):
    first, _ = history(project, 4, 5)
    path = project.path / "tests/__flops__/test_a.json"
    path.write_text("{\n<<<<<<< HEAD\n", encoding="utf-8")
    broken = project.commit("Break it")
    path.write_bytes(b"\xff")
    binary = project.commit("Break it more")
    (mended,) = history(project, 6)
    lines = command("history", TEST)
    assert command.code == 0
    assert rows(lines)[0][0] == mended
    assert rows(lines)[-1][0] == first
    assert len(rows(lines)) == 3
    passed_over = command.errors.splitlines()
    assert passed_over[0].startswith(f"skipped: {broken}:tests/__flops__/test_a.json: conflict marker, line 2")
    assert passed_over[1].startswith(f"skipped: {binary}:tests/__flops__/test_a.json, line 1")
    assert len(passed_over) == 2


def test_a_moved_file_that_cannot_be_read_at_first(project, command):
    history(project, 40)
    (project.path / "lib").mkdir()
    project.git("mv", "tests/__flops__", "lib/__flops__")
    project.git("mv", "tests/test_a.py", "lib/test_a.py")
    path = project.path / "lib/__flops__/test_a.json"
    path.write_text(path.read_text(encoding="utf-8") + "<<<<<<< HEAD\n", encoding="utf-8")
    project.commit("Move and break")
    mended = project.commit("Mend", {"lib/test_a.py": {"test_x": linear(41)}})
    lines = command("history", "lib/test_a.py")
    assert rows(lines)[0][0] == mended
    assert lines[-1] == f"until {mended} it was {TEST}"


def test_many_tests_get_a_line_each(project, command):
    project.commit("One", {"a.py": {f"test_{n}": linear(n) for n in range(1, 8)}}, date="2026-01-02")
    project.commit("Two", {"a.py": {f"test_{n}": linear(n + (n == 3)) for n in range(1, 8)}})
    lines = command("history")
    assert lines[0].split() == ["measurement", "changes", "past", "FLOPs", "change", "since"]
    assert [line.split() for line in lines[2:5]] == [
        ["a.py::test_1", "0", "▁", "4", "FLOPs", "=", "2026-01-02"],
        ["a.py::test_2", "0", "▁", "16", "FLOPs", "=", "2026-01-02"],
        ["a.py::test_3", "1", "▁█", "64", "FLOPs", "+77.8%", "2026-01-02"],
    ]
    assert len(lines) == 9


def test_several_measurements_of_a_test(project, command):
    project.commit("One", {"a.py": {"t": {"model": linear(4), "large": linear(9)}}})
    lines = command("history", "a.py::t")
    assert [line for line in lines if line.startswith("a.py")] == ["a.py::t large", "a.py::t"]


def test_from_a_folder_below_node_ids_begin_there(project, command, monkeypatch):
    history(project, 4, 5)
    project.commit("Beside", {"test_b.py": {"test_y": linear(1)}})
    monkeypatch.chdir(project.path / "tests")
    assert command("history")[0] == "test_a.py::test_x"


def test_it_fits_the_screen(project, command, monkeypatch):
    for number in range(12):
        project.commit(f"A subject of many words {'and more ' * 20}", {"a.py": {"t" * 40: linear(400 + number)}})
    for width in (80, 100, 120):
        for encoding in ("utf-8", "ascii"):
            stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
            monkeypatch.setenv("COLUMNS", str(width))
            monkeypatch.setattr(sys, "stdout", stream)
            command("history")
            lines = stream.buffer.getvalue().decode(encoding).splitlines()
            assert len(lines) > 20
            assert max(map(len, lines)) <= width


def test_a_subject_cannot_steer_the_terminal(project, command):
    project.commit("Red \x1b[31m and \x07", {"a.py": {"t": linear(4)}})
    lines = command("history")
    assert lines[-1].endswith(r"Red \x1b[31m and \x07")


def test_a_shallow_clone_is_told(project, command, monkeypatch, tmp_path):
    history(project, 4, 5)
    project.git("clone", "-q", "--depth", "1", project.path.as_uri(), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    assert len(rows(command("history"))) == 1
    assert command.errors.startswith("the history is incomplete: this clone is shallow: ")
    assert "`fetch-depth: 0`" in command.errors


class TestMistakes:
    def test_no_such_test(self, project, command):
        history(project, 4)
        assert command("history", "test_xx") == []
        assert command.errors == f"error: no test matches 'test_xx'; there is {TEST}\n"
        assert command.code == 2

    def test_no_repository(self, command):
        command("history", "x")
        assert "not a git repository" in command.errors
        assert command.errors.count("\n") == 1
        assert command.code == 2

    def test_no_commit(self, project, command):
        command("history", "x")
        assert command.errors == "error: there is no commit in this repository yet\n"
        assert command.code == 2

    def test_no_baseline(self, project, command):
        project.commit("Nothing")
        command("history")
        assert command.errors.startswith("error: no commit has a baseline below this folder; write one with pytest")

    def test_no_git(self, project, command, monkeypatch):
        monkeypatch.setenv("PATH", "")
        command("history")
        assert "git cannot be found; install it, or put it on the PATH" in command.errors
        assert command.code == 2

    @pytest.mark.parametrize(
        ("argv", "told"),
        [
            (["--metric", "flop"], "no metric 'flop'; did you mean flops?"),
            (["--metric", "time"], "'time' has a value for each device; name one, like time[A100]"),
            (
                ["--metric", "active_params"],
                "'active_params' is in no baseline; name a metric that is, such as flops or params",
            ),
            (["--metric", "tme[A100]"], "no metric 'tme[A100]'; did you mean time?"),
            (["--limit", "few"], "'few' is no number of rows; write 20, or 0 for all"),
            (["--limit", "-3"], "--limit"),
            (["--metrics", "flops"], "no option '--metrics'; did you mean --metric?"),
            (["a", "b"], "one argument too many: 'b'"),
        ],
    )
    def test_a_wrong_argument(self, project, command, argv, told):
        assert command("history", *argv) == []
        assert told in command.errors
        assert command.errors.count("\n") == 1
        assert command.code == 2


def growing(terms, last=64):
    found = laws({"sequence": range(1, last + 1)}, {"flops": terms})
    return replace(linear(4), laws=found)


def test_coefficients(project, command):
    test = "tests/test_a.py"
    models = [linear(4), growing({"sequence": 9}), growing({"sequence": 9}), growing({"sequence^2": 2, "sequence": 9})]
    models.append(growing({"sequence^2": 2, "sequence": 9}, last=128))
    commits = [project.commit(f"Change {number}", {test: {"test_x": one}}) for number, one in enumerate(models)]
    lines = command("history", TEST)
    # The values are equal, and the laws are not.
    assert [row[0] for row in rows(lines[: lines.index("law of flops")])] == [commits[number] for number in (3, 1, 0)]
    assert lines[lines.index("law of flops") :] == [
        "law of flops",
        f"{commits[3]}  2*S^2 + 9*S, for S = 1 ... 64",
        f"{commits[1]}  9*S, for S = 1 ... 64",
    ]
    assert "law of flops" not in command("history", TEST, "--metric", "params")
