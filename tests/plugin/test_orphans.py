"""Orphans: baseline entries whose test no longer exists."""

from __future__ import annotations

import shlex
import sys

import pytest

from pytest_flopsbudget.storage.baseline import load

TEST = "def test_{}(flops_budget):\n    flops_budget(Net(width={}), IMAGE)\n\n"
PRUNE = "to remove: pytest --flops-budget-prune"


def measuring(*names, **widths):
    return "".join(TEST.format(name, 4) for name in names) + "".join(TEST.format(*item) for item in widths.items())


def kept(project, name="test_net"):
    return sorted(load(project.path / "__flops__" / f"{name}.json").tests)


@pytest.fixture
def orphaned(project):
    """Return a project from which one test was removed after its baselines were written."""
    project.write(measuring("a", gone=5))
    project.write(measuring("b"), name="test_other")
    project.run("--flops-budget-update").assert_outcomes(passed=3)
    project.write(measuring("a"))
    return project


def test_named(orphaned):
    result = orphaned.run()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"1 baseline entry without a test; {PRUNE}", "    test_net.py::test_gone"])
    assert kept(orphaned) == ["test_a", "test_gone"]


def test_an_update_keeps_them(orphaned):
    orphaned.run("--flops-budget-update").stdout.fnmatch_lines(["    test_net.py::test_gone"])
    assert kept(orphaned) == ["test_a", "test_gone"]


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["none", "two"])
def test_pruned(orphaned, workers):
    run = orphaned.run_apart if workers else orphaned.run
    result = run("--flops-budget-prune", *workers)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["baseline pruned: __flops__/test_net.json: test_net.py::test_gone"])
    assert (kept(orphaned), kept(orphaned, "test_other")) == (["test_a"], ["test_b"])
    assert PRUNE not in orphaned.run().stdout.str()


#: Arguments that leave tests out, and the reason why pruning is refused.
PARTIAL = [
    (["-k", "test_a"], "1 of 2 tests were deselected"),
    (["-m", "not slow"], "1 of 2 tests were deselected"),
    (["--deselect", "test_other.py::test_b"], "1 of 2 tests were deselected"),
    (["test_net.py::test_a"], "test_net.py::test_a is a part of its file"),
    (["--collect-only"], "--collect-only runs nothing"),
]


@pytest.mark.parametrize(("arguments", "why"), PARTIAL, ids=[arguments[0] for arguments, _ in PARTIAL])
class TestPartial:
    @pytest.fixture
    def partly(self, orphaned):
        orphaned.pytester.makeini(
            "[pytest]\nasyncio_default_fixture_loop_scope = function\nmarkers = slow: takes long\n"
        )
        orphaned.write("@pytest.mark.slow\n" + measuring("b"), name="test_other")
        return orphaned

    def test_names_nothing(self, partly, arguments, why):
        assert PRUNE not in partly.run(*arguments).stdout.str()

    def test_refuses_to_prune(self, partly, arguments, why):
        """If the command line leaves tests out, pruning is refused before any test runs."""
        result = partly.run("--flops-budget-prune", *arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.assert_outcomes()
        result.stderr.fnmatch_lines([f"ERROR: --flops-budget-prune: {why}, *nothing was removed*"])
        assert kept(partly) == ["test_a", "test_gone"]


def test_refuses_with_workers(orphaned):
    """If pruning is refused in a run with workers, the error is printed once."""
    result = orphaned.run_apart("--flops-budget-prune", "-n2", "-k", "test_a")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().count("--flops-budget-prune: 1 of 2 tests were deselected") == 1
    assert kept(orphaned) == ["test_a", "test_gone"]


def test_last_failed(orphaned):
    """With --lf, pruning is refused, because pytest skips whole files."""
    orphaned.write(measuring("a") + "def test_fails(): assert 0\n", name="test_fails")
    orphaned.write(measuring("moved"), name="test_other")
    orphaned.pytester.runpytest_inprocess().assert_outcomes(passed=3, failed=1)
    result = orphaned.pytester.runpytest_inprocess("--lf")
    assert PRUNE not in result.stdout.str()
    result = orphaned.pytester.runpytest_inprocess("--lf", "--flops-budget-prune")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --flops-budget-prune: --lf leaves tests out, *"])
    assert kept(orphaned, "test_other") == ["test_b"]


@pytest.mark.parametrize(
    ("body", "arguments", "status", "why"),
    [
        ("def test_fails(): assert 0\n", ["-x"], pytest.ExitCode.TESTS_FAILED, "the run stopped early"),
        ("def test_ends(): pytest.exit('enough', 0)\n", [], pytest.ExitCode.USAGE_ERROR, "the run stopped early"),
        ("1 / 0\n", [], pytest.ExitCode.INTERRUPTED, "not everything could be collected"),
        (
            "1 / 0\n",
            ["--continue-on-collection-errors"],
            pytest.ExitCode.TESTS_FAILED,
            "not everything could be collected",
        ),
    ],
    ids=["exitfirst", "exit", "collection", "collection continued"],
)
def test_a_run_that_stops(orphaned, body, arguments, status, why):
    """A run that stops early neither names nor removes orphans."""
    orphaned.write(body, name="test_a_first")
    run = orphaned.run_apart if "exit(" in body else orphaned.run
    assert PRUNE not in run(*arguments).stdout.str()
    result = run("--flops-budget-prune", *arguments)
    assert result.ret == status
    result.stdout.fnmatch_lines([f"ERROR: --flops-budget-prune: {why}, *"])
    assert kept(orphaned) == ["test_a", "test_gone"]


def test_a_refusal_without_a_terminal(orphaned):
    orphaned.write("def test_fails(): assert 0\n", name="test_a_first")
    result = orphaned.run_apart("-p", "no:terminal", "--flops-budget-prune", "-x")
    result.stderr.fnmatch_lines(["ERROR: --flops-budget-prune: the run stopped early, *"])
    assert kept(orphaned) == ["test_a", "test_gone"]


def test_items_that_a_plugin_takes_away(orphaned):
    orphaned.pytester.makeconftest("def pytest_collection_modifyitems(items):\n    items[:] = items[:1]\n")
    result = orphaned.run("--flops-budget-prune")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --flops-budget-prune: 1 of 2 tests were deselected, *"])


@pytest.mark.parametrize(
    "body",
    [
        "@pytest.mark.skip\n" + measuring("a", gone=5),
        measuring("a") + "@pytest.mark.skipif(True, reason='no')\n" + measuring("gone"),
        "pytest.skip('not here', allow_module_level=True)\n",
        "pytest.importorskip('no_such_module')\n" + measuring("a"),
        "class TestOfAnother:\n    pytest.importorskip('no_such_module')\n",
        measuring("a") + "def test_gone(flops_budget):\n    assert 0\n",
        measuring("a") + "@pytest.mark.xfail\ndef test_gone(flops_budget):\n    assert 0\n",
        measuring("a") + "def test_gone(flops_budget):\n    pass\n",
    ],
    ids=["skip", "skipif", "module", "importorskip", "in a class", "fails", "xfails", "measures nothing"],
)
def test_tests_that_are_there_keep_their_entries(orphaned, body):
    orphaned.write(body)
    result = orphaned.run("--flops-budget-prune")
    assert PRUNE not in result.stdout.str()
    assert "pruned" not in result.stdout.str()
    assert kept(orphaned) == ["test_a", "test_gone"]


class TestOneFile:
    def test_of_several(self, orphaned):
        """If the command line names a test file, the run names and removes only orphans of this file."""
        orphaned.write(measuring("c"), name="test_other")
        result = orphaned.run("test_other.py", "--flops-budget-prune")
        result.stdout.fnmatch_lines(["1 test likely renamed*"])
        assert (kept(orphaned), kept(orphaned, "test_other")) == (["test_a", "test_gone"], ["test_b"])
        orphaned.run("test_net.py", "--flops-budget-prune")
        assert (kept(orphaned), kept(orphaned, "test_other")) == (["test_a"], ["test_b"])

    def test_that_is_gone(self, orphaned):
        """If a test file was removed, --flops-budget-prune in a run of its folder removes its baseline."""
        orphaned.path.joinpath("test_other.py").unlink()
        assert "test_b" not in orphaned.run("test_net.py").stdout.str()
        orphaned.run().stdout.fnmatch_lines(
            [f"2 baseline entries without a test; {PRUNE}", "    test_net.py::test_gone", "    test_other.py::test_b"]
        )
        orphaned.run("test_net.py", "--flops-budget-prune")
        assert orphaned.path.joinpath("__flops__", "test_other.json").exists()
        orphaned.run("--flops-budget-prune").stdout.fnmatch_lines(
            ["baseline pruned: __flops__/test_other.json: test_other.py::test_b"]
        )
        assert not orphaned.path.joinpath("__flops__", "test_other.json").exists()

    @pytest.mark.parametrize("way", ["--ignore=test_other.py", "--ignore-glob=*other*", "conftest"])
    def test_that_is_ignored(self, orphaned, way):
        orphaned.write(measuring("other"), name="test_other")
        if way == "conftest":
            orphaned.pytester.makeconftest("collect_ignore = ['test_other.py']\n")
        orphaned.run("--flops-budget-prune", *([] if way == "conftest" else [way]))
        assert kept(orphaned, "test_other") == ["test_b"]

    @pytest.mark.parametrize("way", ["--ignore", "--ignore-glob", "norecursedirs", "testpaths"])
    def test_in_a_folder_that_is_not_looked_into(self, orphaned, way):
        folder = orphaned.path / "elsewhere"
        folder.joinpath("__flops__").mkdir(parents=True)
        orphaned.path.joinpath("test_other.py").unlink()
        baseline = folder / "__flops__" / "test_other.json"
        orphaned.path.joinpath("__flops__", "test_other.json").rename(baseline)
        ways = {
            "--ignore": ["--ignore=elsewhere"],
            "--ignore-glob": ["--ignore-glob=*/elsewhere"],
            "norecursedirs": ["-o", "norecursedirs=else*"],
            "testpaths": ["-o", "testpaths=test_net.py"],
        }
        orphaned.run("--flops-budget-prune", *ways[way])
        assert baseline.exists()
        orphaned.run("--flops-budget-prune")
        assert not baseline.exists()


class TestRenames:
    def test_shown_as_a_pair(self, orphaned):
        orphaned.write(measuring("a", new=5))
        orphaned.run().stdout.fnmatch_lines(
            [
                "1 test likely renamed, at the same cost; to move the baseline:",
                "    flopsbudget rename test_net.py::test_gone test_net.py::test_new",
            ]
        )

    def test_the_command_moves_the_baseline(self, orphaned):
        orphaned.write(measuring("a", new=5))
        shown = next(line for line in orphaned.run().stdout.lines if " rename " in line)
        program, *arguments = shlex.split(shown)
        assert program == "flopsbudget"
        moved = orphaned.pytester.run(sys.executable, "-m", "pytest_flopsbudget", *arguments)
        assert moved.ret == 0
        assert kept(orphaned) == ["test_a", "test_new"]
        orphaned.run().stdout.fnmatch_lines(["3 measurements: 3 ok; *", "*3 passed*"], consecutive=True)

    def test_of_another_cost(self, orphaned):
        orphaned.write(measuring("a", new=6))
        result = orphaned.run()
        assert "rename" not in result.stdout.str()
        result.stdout.fnmatch_lines(["    test_net.py::test_gone"])

    def test_pruning_leaves_them(self, orphaned):
        orphaned.write(measuring("a", new=5))
        orphaned.run("--flops-budget-prune").stdout.fnmatch_lines(["1 test likely renamed*"])
        assert kept(orphaned) == ["test_a", "test_gone"]
        orphaned.run("--flops-budget-prune", "--flops-budget-update=new")
        assert kept(orphaned) == ["test_a", "test_new"]

    def test_typed_in_another_folder(self, orphaned, monkeypatch):
        """The rename command in the summary works in the folder in which pytest was started."""
        orphaned.write(measuring("a", new=5))
        folder = orphaned.path / "elsewhere"
        folder.mkdir()
        monkeypatch.chdir(folder)
        result = orphaned.run("..", "--rootdir", str(orphaned.path), "-c", str(orphaned.path / "tox.ini"))
        result.stdout.fnmatch_lines(["    *rename ../test_net.py::test_gone ../test_net.py::test_new"])


def test_pruning_where_nothing_measures_any_more(project):
    project.write(measuring("a"))
    project.run("--flops-budget-update")
    project.write("def test_other(): pass\n")
    project.run().stdout.fnmatch_lines(["*flops budgets*", "    test_net.py::test_a"])
    project.run("--flops-budget-prune")
    assert not project.baseline.exists()
    assert "flops budgets" not in project.run().stdout.str()


def test_not_named_where_baselines_hold_nothing(orphaned):
    result = orphaned.run("--flops-budget-disable")
    assert result.ret == pytest.ExitCode.OK
    assert "flops budgets" not in result.stdout.str()


def test_settings_that_leave_tests_out(orphaned):
    """If pytest's settings leave tests out, pruning is refused, and the error shows how to override the settings."""
    orphaned.write("@pytest.mark.slow\n" + measuring("b"), name="test_other")
    orphaned.pytester.makeini(
        "[pytest]\nasyncio_default_fixture_loop_scope = function\nmarkers = slow: takes long\naddopts = -m 'not slow'\n"
    )
    orphaned.run("--flops-budget-prune").stderr.fnmatch_lines(['ERROR: --flops-budget-prune: * (-m "" if *)'])
    assert kept(orphaned) == ["test_a", "test_gone"]
    orphaned.run("--flops-budget-prune", "-m", "")
    assert (kept(orphaned), kept(orphaned, "test_other")) == (["test_a"], ["test_b"])


def test_a_damaged_baseline_without_a_test_file(orphaned):
    path = orphaned.path / "__flops__" / "test_damaged.json"
    path.write_text("{", encoding="utf-8")
    result = orphaned.run("--flops-budget-prune")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines([f"ERROR: {path}, line 1: *"])
    assert path.read_text(encoding="utf-8") == "{"
    assert kept(orphaned) == ["test_a"]


def test_groups_of_workers(orphaned):
    """Pruning keeps the entries of tests that are in a group of pytest-xdist."""
    orphaned.write("@pytest.mark.xdist_group('gpu')\n" + measuring("a"))
    orphaned.run_apart("-n1", "--dist", "loadgroup", "--flops-budget-prune")
    assert kept(orphaned) == ["test_a"]
