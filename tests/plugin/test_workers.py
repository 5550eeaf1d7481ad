"""Workers and other terminals do not change the results."""

from __future__ import annotations

import pytest

MEASURING = "def test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n"


def test_groups(project):
    """If pytest-xdist appends a group to a node id, baselines use the id without the group."""
    project.settings('[[tool.pytest-flopsbudget.budgets]]\nmatch = "*::test_net"\nflops = "20k"\n')
    project.write(MEASURING)
    project.run("--flops-budget-update")
    project.write("@pytest.mark.xdist_group('gpu')\n" + MEASURING.replace("Net()", "Net(kernel=5)"))
    result = project.run_apart("-n1", "--dist", "loadgroup")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "flops +92.4% over its limit by stem in test_net",
            "  flops *38.48 kFLOPs *20 kFLOPs  pyproject budgets 1, baseline",
            "to accept, once the limits allow it: pytest --flops-budget-update test_net.py::test_net",
        ]
    )


def test_mistakes_of_all_kinds(project):
    project.settings('[tool.pytest-flopsbudget]\ntolerence = "1%"\n')
    project.baseline.parent.mkdir()
    project.baseline.write_text("{")
    project.pytester.makepyfile(
        test_net="import pytest\n\n@pytest.mark.flops_budget(flop=1)\ndef test_net(flops_budget): pass\n"
    )
    result = project.run_apart("-n2", "-p", "no:terminal")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    for problem in ("tolerence: no such key", "flop: no such key", "test_net.json, line 1"):
        assert result.stderr.str().count(problem) == 1
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["none", "one"])
def test_failures_on_an_ascii_terminal(project, monkeypatch, workers):
    """A worker's failures use only characters that the controller's terminal can show."""
    project.write(MEASURING)
    project.run("--flops-budget-update")
    project.write(MEASURING.replace("Net()", "Net(kernel=5)"))
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert "  stem: Conv2d(3->4, 3x3) -> Conv2d(3->4, 5x5) (models.py:7)" in project.run_apart(*workers).stdout.lines


@pytest.mark.parametrize(("after", "in_xml"), [("pass", 5), ("assert 0", 0)], ids=["budget", "own failure too"])
def test_one_cause_on_several_workers(project, after, in_xml):
    """A failure refers to an earlier one with its cause, also if that one failed on another worker."""
    tests = (
        "@pytest.mark.parametrize('number', range(6))\n"
        "def test_net(flops_budget, number):\n    flops_budget(Net({}), IMAGE)\n    {}\n"
    )
    project.write(tests.format("", "pass"))
    project.run("--flops-budget-update").assert_outcomes(passed=6)
    project.write(tests.format("kernel=5", after))
    result = project.run_apart("-n2", "--junitxml=junit.xml")
    result.assert_outcomes(failed=6)
    lines = result.stdout.lines
    assert sum(line.startswith("  metric  ") for line in lines) == 1
    references = [line for line in lines if line.startswith("  the change that test_net.py::test_net[")]
    assert len(references) == 5
    assert len({line.partition(" shows")[0] for line in references}) == 1
    # pytest's own XML report stores what the terminal shows.
    assert (project.path / "junit.xml").read_text(encoding="utf-8").count("  the change that test_net.py::") == in_xml


def test_from_conftest_alone(project, monkeypatch):
    """If plugins are not loaded automatically, one line in conftest.py loads this plugin."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    project.path.joinpath("tox.ini").unlink()
    project.pytester.makeconftest("pytest_plugins = ['pytest_flopsbudget.plugin.hooks']\n")
    project.write("@pytest.mark.flops_budget(flops=1)\n" + MEASURING)
    result = project.run_apart("--strict-markers")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["flops x13.9k its limit in *"])


def test_hooks_of_a_folder(project):
    """A hook in the conftest.py of a test's folder is called, and its output belongs to the test."""
    folder = project.path / "tests"
    folder.mkdir()
    folder.joinpath("conftest.py").write_text(
        "def pytest_flopsbudget_judged(item, verdict):\n    print('judged', verdict.outcome)\n", encoding="utf-8"
    )
    project.settings('[tool.pytest-flopsbudget]\nmissing-baseline = "fail"\n')
    project.write(MEASURING)
    project.path.joinpath("test_net.py").rename(folder / "test_net.py")
    result = project.run("-o", f"pythonpath={project.path}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Captured stdout call*", "judged new"])


def test_a_baseline_that_cannot_be_written_without_a_terminal(project):
    project.write(MEASURING)
    project.baseline.parent.write_text("a file where a folder should be", encoding="utf-8")
    result = project.run_apart("-p", "no:terminal", "--flops-budget-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *test_net.json: cannot be *"])
