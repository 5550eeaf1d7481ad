from pathlib import Path

import pytest
from samples import linear, report, reported_test

from pytest_flopsbudget.storage.report_file import load, save

FINE = reported_test("a.py::fine", linear(4), linear(4))
REGRESSED = reported_test("b.py::expensive", linear(5), linear(4))


def write(**reports):
    for name, one in reports.items():
        save(one, Path(f"{name}.json"))


def test_two_passing_shards(command):
    write(one=report(FINE), two=report(reported_test("b.py::t", linear(4), linear(4))))
    assert command("merge", "one.json", "two.json", "-o", "all.json") == [
        "2 reports, 2 tests, 2 measurements: passed",
        "report written: all.json",
    ]
    assert command.code == 0
    assert [test.nodeid for test in load(Path("all.json")).tests] == ["a.py::fine", "b.py::t"]


def test_a_failing_shard_fails_the_whole(command):
    write(one=report(FINE), two=report(REGRESSED))
    assert command("merge", "one.json", "two.json", "-o", "all.json")[0] == "FAILED b.py::expensive: regressed"
    assert command.code == 1


def test_a_shard_that_failed_for_something_unmeasured_fails_the_whole(command):
    write(one=report(FINE), two=report(exit_status=1))
    assert command("merge", "one.json", "two.json", "-o", "all.json")[0] == "2 reports, 1 test, 1 measurement: failed"
    assert command.code == 1


@pytest.mark.parametrize(
    ("status", "told"), [(2, "interrupted"), (3, "pytest itself failed"), (4, "a run was called wrongly")]
)
def test_a_shard_that_did_not_run_to_its_end_fails_the_whole(command, status, told):
    write(one=report(FINE), two=report(exit_status=status))
    assert told in command("merge", "one.json", "two.json", "-o", "all.json")[0]
    assert command.code == 1


def test_into_one_of_them(command):
    write(one=report(FINE), two=report(REGRESSED))
    command("merge", "one.json", "two.json", "-o", "one.json")
    assert load(Path("one.json")).tests == (FINE, REGRESSED)


def test_nothing_is_written_where_they_do_not_fit(command):
    write(one=report(FINE), two=report(REGRESSED, root="sub"))
    command("merge", "one.json", "two.json", "-o", "all.json")
    assert command.code == 2
    assert command.errors == (
        "error: one.json and two.json are not of one run: root is . in one and sub in the other; merge the reports of "
        "one run's shards\n"
    )
    assert not Path("all.json").exists()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["one.json", "gone.json", "-o", "x"], "gone.json: cannot be read: No such file"),
        (["one.json", "one.json", "-o", "x"], "one.json is named twice"),
        (["one.json", "broken.json", "-o", "x"], "broken.json, line 1: "),
        (["one.json"], "-o/--output"),
        (["-o", "x"], "REPORT"),
        (["one.json", "-o", "."], ".: cannot be written: "),
        (["one.json", "-o", "-"], "-o -: names no file; write -o REPORT"),
    ],
)
def test_mistakes_are_one_line(command, argv, told):
    write(one=report(FINE))
    Path("broken.json").write_text("{", encoding="utf-8")
    assert command("merge", *argv) == []
    assert command.code == 2
    assert told in command.errors
    assert command.errors.count("\n") == 1


@pytest.mark.parametrize(
    "output",
    [f"x/{'n' * 300}", f"x/y/{'n' * 300}.json", f"x/{'n' * 300}/all.json", f"there/new/{'n' * 300}", "there/a/\0"],
)
def test_a_failing_write_leaves_nothing(command, output):
    write(one=report(FINE))
    Path("there").mkdir()
    command("merge", "one.json", "-o", output)
    assert command.code
    assert sorted(str(path) for path in Path().rglob("*")) == ["one.json", "there"]


def test_folders_are_made(command):
    write(one=report(FINE))
    command("merge", "one.json", "-o", "new/newer/all.json")
    assert command.code == 0
    assert load(Path("new/newer/all.json")).tests
