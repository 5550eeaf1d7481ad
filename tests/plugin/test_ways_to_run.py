"""Verdicts, summary and baselines do not depend on how pytest is run."""

from __future__ import annotations

import os
import re

import pytest
from many_tests import INI, ManyTests

NEW = "--flops-budget-update=new"

#: Test → FLOPs of its measurements in the first baselines.
BEFORE = {
    "test_a.py::test_same": {"model": 100},
    "test_a.py::test_expensive": {"model": 100},
    "test_a.py::test_cheaper": {"model": 100},
    "test_a.py::test_gone": {"model": 100},
    "test_b.py::TestClass::test_names": {"kept": 1, "before": 2},
    "test_b.py::TestClass::test_over": {"model": 100},
    "test_b.py::TestClass::test_fails": {"model": 100},
    "test_b.py::TestClass::test_skipped": {"model": 100},
    "test_b.py::TestClass::test_fails_as_expected": {"model": 100},
    "sub/test_c.py::test_letters[z]": {"model": 10},
    "sub/test_c.py::test_letters[y]": {"model": 10},
    "sub/test_c.py::test_letters[x]": {"model": 10},
    "sub/test_c.py::test_late": {"model": 100},
    "sub/test_c.py::test_last": {"model": 20},
}
#: Test → FLOPs of the entries that an update with =new adds or extends.
ADDED = {
    "test_a.py::test_added[10]": {"model": 10},
    "test_a.py::test_added[2]": {"model": 2},
    "test_a.py::test_added[1]": {"model": 1},
    "test_b.py::TestClass::test_names": {"kept": 1, "before": 2, "after": 2},
}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Return the project with its first baselines."""
    many = ManyTests(tmp_path_factory.mktemp("runs") / "project")
    first = many.run("--flops-budget-update", age="old")
    assert first.status == pytest.ExitCode.OK
    assert first.flops == BEFORE
    many.before = first.baselines
    return many


@pytest.fixture(scope="module")
def reference(many):
    """Return the results of a run whose only argument is ``--flops-budget-update=new``."""
    many.restore(many.before)
    return many.run(NEW)


@pytest.fixture
def run(many):
    """Return a function that runs the project, which has its first baselines."""
    many.restore(many.before)
    return many.run


def test_the_reference(reference):
    assert reference.status == pytest.ExitCode.TESTS_FAILED
    assert reference.flops == BEFORE | ADDED
    assert re.findall(r"^FAILED (\S+)", reference.text, re.MULTILINE) == [
        "sub/test_c.py::test_late",
        "test_a.py::test_expensive",
        "test_b.py::TestClass::test_over",
        "test_b.py::TestClass::test_fails",
    ]
    text = "\n".join(reference.summary)
    assert [line.split()[0] for line in reference.summary if "kFLOPs" not in line and line.startswith("  test")] == [
        "test_letters[x]",
        "test_letters[z]",
        "test_late",
        "test_expensive",
        "test_cheaper",
        "test_added[1]",
        "test_added[2]",
        "test_added[10]",
    ]
    # FLOPs per file: 5 + 10 + 5 + 150 + 20; then 100 + 150 + 50 + 1 + 2 + 10; then 1 + 2 + 150 + 150.
    assert "15 measurements: 1 over limit, 3 regressed, 3 improved, 4 new, 4 ok; 806 FLOPs counted" in text
    assert "baseline written: __flops__/test_a.json: 3 new" in text
    assert "baseline written: __flops__/test_b.json: 1 new" in text
    assert "    test_a.py::test_gone" in text


WAYS = [
    ["-n1"],
    ["-n2", "--dist=load"],
    ["-n2", "--dist=loadscope"],
    ["-n2", "--dist=loadfile", "--reruns=1"],
    ["-n2", "--dist=worksteal", "--random-order-bucket=global", "--random-order-seed=1"],
    ["-n4"],
    ["--random-order-bucket=global", "--random-order-seed=2"],
    ["--reruns=1", "--ff"],
    ["-p", "no:cacheprovider", "--import-mode=importlib"],
    ["test_b.py", "test_a.py", "sub"],
]


@pytest.mark.parametrize("arguments", WAYS, ids=" ".join)
def test_ways(run, reference, arguments):
    outcome = run(NEW, *arguments)
    assert outcome.status == reference.status
    assert outcome.summary == reference.summary
    assert outcome.baselines == reference.baselines


def test_each_test_by_its_id(run, reference):
    """If the command line has all node ids, the summary lacks only the lines about the orphan."""
    nodeids = [*BEFORE | ADDED][::-1]
    nodeids.remove("test_a.py::test_gone")
    outcome = run(NEW, *nodeids)
    assert outcome.summary == reference.summary[:-2]
    assert outcome.baselines == reference.baselines


def test_without_a_terminal(run, reference):
    outcome = run(NEW, "-p", "no:terminal")
    assert (outcome.status, outcome.baselines) == (reference.status, reference.baselines)
    assert outcome.text + outcome.errors == ""


def test_without_autoload(run, reference):
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    outcome = run(NEW, "-p", "pytest_flopsbudget.plugin.hooks", environment=environment)
    assert outcome.status == reference.status
    assert outcome.summary == reference.summary
    assert outcome.baselines == reference.baselines


@pytest.mark.parametrize("place", ["sub", "../elsewhere"])
def test_another_working_directory(run, many, reference, place):
    """If pytest is started in another folder, only the paths in the summary change."""
    folder = many.path / place
    folder.mkdir(exist_ok=True)
    up = ".." if place == "sub" else "../project"
    outcome = run(NEW, up, cwd=folder)
    assert outcome.status == reference.status
    assert outcome.baselines == reference.baselines

    def typed(word):
        file, separator, test = word.partition("::")
        known = separator and (many.path / file).exists()
        return f"{os.path.relpath(many.path / file, folder)}::{test}" if known else word

    # Longer paths wrap at other places, so words are compared, and not lines.
    assert [word for line in outcome.summary if line.startswith("  ") for word in line.split()] == [
        typed(word) for line in reference.summary if line.startswith("  ") for word in line.split()
    ]


@pytest.mark.parametrize("kind", ["none", "conftest", "pyproject", "pytest.ini and pyproject"])
def test_configuration(run, many, reference, kind):
    """The place of pytest's settings does not change the baselines."""
    ini, pyproject = many.path / "pytest.ini", many.path / "pyproject.toml"
    conftest = many.path / "conftest.py"
    text = conftest.read_text(encoding="utf-8")
    arguments = ["--rootdir=.", "-o", "markers=slow"]
    environment = {}
    try:
        if kind != "pytest.ini and pyproject":
            ini.unlink()
        if kind == "conftest":
            environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            conftest.write_text("pytest_plugins = ['pytest_flopsbudget.plugin.hooks']\n" + text, encoding="utf-8")
        if "pyproject" in kind:
            pyproject.write_text('[tool.pytest-flopsbudget]\nshow = "macs"\n', encoding="utf-8")
        outcome = run(NEW, *arguments, environment=environment)
    finally:
        ini.write_text(INI, encoding="utf-8")
        pyproject.unlink(missing_ok=True)
        conftest.write_text(text, encoding="utf-8")
    assert outcome.status == reference.status
    assert outcome.baselines == reference.baselines
    if "pyproject" in kind:
        assert outcome.summary[0].split()[1] == "MACs"
    else:
        assert outcome.summary == reference.summary


class TestAPart:
    """If only some of the tests run, the entries of the other tests do not change."""

    @pytest.mark.parametrize(
        ("arguments", "added"),
        [
            (["-k", "added and 10"], ["test_a.py::test_added[10]"]),
            (["-m", "not slow"], list(ADDED)),
            (["test_b.py"], ["test_b.py::TestClass::test_names"]),
            (["--deselect=test_b.py", "-n2"], [nodeid for nodeid in ADDED if "test_a" in nodeid]),
            (["-x", "test_b.py", "test_a.py"], ["test_b.py::TestClass::test_names"]),
            (["--collect-only"], []),
        ],
        ids=lambda value: " ".join(value) if value and value[0].startswith(("-", "test_b.py")) else "",
    )
    def test_selected(self, run, arguments, added):
        assert run(NEW, *arguments).flops == BEFORE | {nodeid: ADDED[nodeid] for nodeid in added}

    def test_last_failed(self, run):
        """With --lf, an update accepts the tests that regressed, and changes no other entry."""
        assert run().flops == BEFORE
        outcome = run("--flops-budget-update", "--lf")
        expensive = {nodeid: {"model": 150} for nodeid in ("test_a.py::test_expensive", "sub/test_c.py::test_late")}
        assert outcome.flops == BEFORE | expensive
        assert "4 measurements: 1 over limit, 1 regressed, 2 accepted; " in outcome.text

    def test_rows_are_those_of_the_whole_run(self, run, reference):
        rows = [line.split() for line in run(NEW, "-k", "names or over or z", "-n2").summary]
        whole = [line.split() for line in reference.summary]
        names = ["test_letters[z]", "TestClass::test_names", "TestClass::test_over"]
        shown = [row for row in rows if row and row[0] in names]
        assert [row[0] for row in shown] == names
        assert shown == [row for row in whole if row and row[0] in names]


def test_twice(run, reference):
    run(NEW)
    outcome = run(NEW)
    assert "nothing to write" in outcome.summary
    assert outcome.baselines == reference.baselines
