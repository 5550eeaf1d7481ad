"""``--flops-budget-update`` writes all measurements, or only new ones, or only improved ones."""

from __future__ import annotations

import pytest

from pytest_flopsbudget.storage.baseline import load

#: FLOPs: 2·8·8·4·3·k·k for the convolution, 2·4·10 for the linear layer.
FLOPS = {kernel: 2 * 8 * 8 * 4 * 3 * kernel * kernel + 80 for kernel in (1, 3, 5)}


def measuring(**kernels):
    """Return the source code of tests. ``kernels`` is {name of a test: kernel size of its model}."""
    return "\n".join(
        f"def test_{name}(flops_budget):\n    flops_budget(Net(kernel={kernel}), IMAGE)\n"
        for name, kernel in kernels.items()
    )


def accepted(project):
    """Return {name of a test: kernel size of its model} for the tests in the baseline."""
    kernels = {flops: kernel for kernel, flops in FLOPS.items()}
    tests = load(project.baseline).tests
    return {test.removeprefix("test_"): kernels[names["model"].flops] for test, names in tests.items()}


@pytest.fixture
def changed(project):
    """Return a project in which one test became more expensive, one cheaper, one did not change and one is new."""
    project.write(measuring(expensive=3, cheaper=3, same=3))
    project.run("--flops-budget-update").assert_outcomes(passed=3)
    project.write(measuring(expensive=5, cheaper=1, same=3, added=3))
    return project


def test_all(changed):
    changed.run("--flops-budget-update").stdout.fnmatch_lines(
        [
            "4 measurements: 1 accepted, 1 improved, 1 new, 1 ok; *",
            "baseline written: __flops__/test_net.json: 1 new, 1 regressed, 1 improved, 1 unchanged",
        ]
    )
    assert accepted(changed) == {"expensive": 5, "cheaper": 1, "same": 3, "added": 3}


def test_new(changed):
    result = changed.run("--flops-budget-update=new")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "flops * over its baseline *",
            "4 measurements: 1 regressed, 1 improved, 1 new, 1 ok; *",
            "1 test improved; tighten the baseline: pytest --flops-budget-update=improved test_net.py::test_cheaper",
            "baseline written: __flops__/test_net.json: 1 new",
        ]
    )
    assert accepted(changed) == {"expensive": 3, "cheaper": 3, "same": 3, "added": 3}


def test_improved(changed):
    result = changed.run("--flops-budget-update=improved")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "1 test without a baseline; write it: pytest --flops-budget-update=new test_net.py::test_added",
            "baseline written: __flops__/test_net.json: 1 improved",
        ]
    )
    assert accepted(changed) == {"expensive": 3, "cheaper": 1, "same": 3}


@pytest.mark.parametrize(
    ("word", "failed"), [("new", ["test_expensive", "test_cheaper"]), ("improved", ["test_expensive", "test_added"])]
)
def test_strict_settings_hold_for_what_is_not_accepted(changed, word, failed):
    changed.settings('[tool.pytest-flopsbudget]\nmissing-baseline = "fail"\nimproved-baseline = "fail"\n')
    result = changed.run(f"--flops-budget-update={word}", "-rf")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines([f"FAILED test_net.py::{name}*" for name in failed])


def test_improved_does_not_take_another_input(project):
    """`--flops-budget-update=improved` does not write a test that has fewer FLOPs because of a smaller batch."""
    project.write(measuring(net=3))
    project.run("--flops-budget-update")
    before = project.baseline.read_bytes()
    project.write(measuring(net=3).replace("IMAGE", "torch.empty(1, 3, 4, 4)"))
    project.run("--flops-budget-update=improved").stdout.fnmatch_lines(
        [
            "1 test changed: another input or model; to accept: pytest --flops-budget-update test_net.py::test_net",
            "nothing to write",
        ]
    )
    assert project.baseline.read_bytes() == before


def test_improved_decides_for_whole_entries(project):
    """`--flops-budget-update=improved` writes no metric of a test with fewer FLOPs and more parameters."""
    project.write(measuring(net=3))
    project.run("--flops-budget-update")
    before = project.baseline.read_bytes()
    project.write(
        "class Wide(Net):\n"
        "    def __init__(self):\n        super().__init__(kernel=1)\n        self.more = nn.Linear(99, 99)\n\n"
        + measuring(net=3).replace("Net(kernel=3)", "Wide()")
    )
    project.run("--flops-budget-update=improved").assert_outcomes(failed=1)
    assert project.baseline.read_bytes() == before


@pytest.mark.parametrize(("word", "names"), [("=new", {"old": 3, "other": 3, "gone": 3}), ("", {"old": 1, "other": 3})])
def test_names_that_are_no_longer_measured(project, word, names):
    """If a name is no longer measured, a full update removes its entry, and `--flops-budget-update=new` keeps it."""
    body = "def test_net(flops_budget):\n    for name in ({}):\n        flops_budget(Net(kernel=3), IMAGE, name=name)\n"
    project.write(body.format("'old', 'gone'"))
    project.run("--flops-budget-update").assert_outcomes(passed=1)
    project.write(body.format("'other',") + "    flops_budget(Net(kernel=1), IMAGE, name='old')\n")
    project.run(f"--flops-budget-update{word}").assert_outcomes(passed=1)
    assert {name: entry.flops for name, entry in load(project.baseline).tests["test_net"].items()} == {
        name: FLOPS[kernel] for name, kernel in names.items()
    }


class TestCommandLine:
    @pytest.mark.parametrize("flag", ["--flops-budget-update", "--flops-budget-update=new"])
    def test_a_path_behind_it(self, project, flag):
        """If the name of a folder follows the flag, pytest takes the name for a path and not for a mode."""
        for folder in ("new", "other"):
            project.path.joinpath(folder).mkdir()
            project.write(measuring(net=3), name=f"{folder}/test_{folder}")
        arguments = ["-o", f"pythonpath={project.path}"]
        project.run(*arguments, flag, "new").assert_outcomes(passed=1)
        assert not project.path.joinpath("other", "__flops__").exists()
        project.run(*arguments, "other", flag, "new").assert_outcomes(passed=2)

    @pytest.mark.parametrize(
        ("argument", "hint"),
        [("=nwe", "*did you mean --flops-budget-update=new[?]*"), ("=IMPROVE", "*=improved"), ("=", "*=improved")],
    )
    def test_a_typo(self, project, argument, hint):
        project.write(measuring(net=3))
        result = project.run(f"--flops-budget-update{argument}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: --flops-budget-update{argument}: * nothing that can be accepted{hint}"])
        assert not project.baseline.exists()

    def test_a_typo_in_the_settings(self, project):
        """If the settings have a wrong mode, the error lists the allowed modes."""
        project.pytester.makeini("[pytest]\naddopts = --flops-budget-update=nwe\n")
        result = project.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*--flops-budget-update=new/--flops-budget-update=improved: *'nwe'*"])

    def test_the_last_one_counts(self, changed):
        changed.run("--flops-budget-update", "--flops-budget-update=new")
        assert accepted(changed)["expensive"] == 3

    @pytest.mark.parametrize("flag", ["--flops-budget-update=new", "--flops-budget-prune"])
    def test_contradictions(self, project, flag):
        result = project.run("--flops-budget-disable", flag)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {flag.partition('=')[0]} and --flops-budget-disable contradict *"])
