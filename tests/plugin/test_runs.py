"""Different ways to run pytest, and the cost of runs without measurements."""

from __future__ import annotations

import re
import sys

import pytest
from paths import DOCS

from pytest_flopsbudget.identifiers import baseline_path
from pytest_flopsbudget.storage.baseline import load

GROWN = """
@pytest.mark.flops_budget(flops="1M")
def test_a(flops_budget):
    flops_budget(Net(kernel=5), IMAGE)

def test_b(flops_budget):
    flops_budget(Net(), IMAGE)
"""


@pytest.fixture
def grown(project):
    """Return a project in which the first model has grown since its baseline."""
    project.write(GROWN.replace("kernel=5", ""))
    project.run("--flops-budget-update").assert_outcomes(passed=2)
    project.write(GROWN)
    return project


def check(result):
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "  stem: Conv2d(3?4, 3?3) ? Conv2d(3?4, 5?5) (models.py:7)",
            "  test_a * +176.8% *3.8*% * regressed",
            "2 measurements: 1 regressed, 1 ok; *",
        ]
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-n2"],
        ["-n1", "--dist", "loadfile"],
        ["--import-mode=importlib"],
        ["-p", "no:cacheprovider"],
        ["test_net.py::test_b", "test_net.py::test_a"],
    ],
    ids=" ".join,
)
def test_arguments(grown, arguments):
    if "importlib" in str(arguments):
        # With --import-mode=importlib, the folder of a test file is not on sys.path.
        arguments = [*arguments, "-o", f"pythonpath={grown.path}"]
    check(grown.run_apart(*arguments) if "-n" in str(arguments) else grown.run(*arguments))


def test_update_with_workers_writes_the_same_bytes(grown):
    before = grown.baseline.read_bytes()
    grown.write(GROWN.replace("kernel=5", ""))
    grown.baseline.unlink()
    grown.run_apart_with_torch("-n2", "--flops-budget-update").assert_outcomes(passed=2)
    assert grown.baseline.read_bytes() == before


def test_another_working_directory(grown, monkeypatch):
    elsewhere = grown.path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    check(grown.run("..", "--rootdir", str(grown.path), "-c", str(grown.path / "tox.ini")))


def test_without_autoload(grown, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    grown.path.joinpath("tox.ini").unlink()
    check(grown.run_apart("-p", "pytest_flopsbudget.plugin.hooks"))


def test_without_a_terminal(grown):
    result = grown.run_apart("-p", "no:terminal")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "Traceback" not in result.stderr.str()


def test_pytest_ini_outranks_the_pyproject(grown):
    """If a pytest.ini exists, the plugin still reads its own settings from the pyproject."""
    grown.settings('[tool.pytest-flopsbudget]\ntolerance = "200%"\n')
    grown.pytester.makefile(".ini", pytest="[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    grown.run().assert_outcomes(passed=2)


def test_a_worker_that_dies(project):
    project.write(
        GROWN.replace("kernel=5", "")
        + "\ndef test_c(flops_budget):\n    flops_budget(Net(), IMAGE)\n    import os\n    os._exit(3)\n"
    )
    result = project.run_apart("-n1", "--flops-budget-update")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = project.baseline.read_text()
    assert '"test_a"' in text
    assert '"test_b"' in text
    assert '"test_c"' not in text


def test_strict_markers_without_the_plugin(project):
    """Without the plugin, --strict-markers accepts the marker if pytest's settings have the line from the docs."""
    arguments = ["-p", "no:flopsbudget", "--strict-markers"]
    project.pytester.makepyfile("import pytest\n\n@pytest.mark.flops_budget(flops=1)\ndef test_none(): pass\n")
    assert project.run_apart(*arguments).ret == pytest.ExitCode.INTERRUPTED
    page = DOCS.joinpath("configuration.md").read_text(encoding="utf-8")
    (line,) = re.findall(r'^`markers = \["(flops_budget: .*)"\]`\.$', page, re.MULTILINE)
    project.run_apart(*arguments, "-o", f"markers={line}").assert_outcomes(passed=1)


class TestNothingToMeasure:
    def test_costs_no_import(self, pytester):
        """If no test needs the plugin, it imports no large package and prints nothing."""
        pytester.makepyfile(
            "import sys\n\ndef test_nothing():\n"
            "    assert not {'torch', 'msgspec', 'rich', 'pytest_flopsbudget.config.settings'} & sys.modules.keys()\n"
        )
        command = [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "-p", "no:xdist"]
        result = pytester.run(*command)
        result.assert_outcomes(passed=1)
        assert "flops budgets" not in result.stdout.str()
        assert "flops-budget:" not in result.stdout.str()

    def test_imports_a_few_small_modules(self, pytester):
        pytester.makepyfile(
            "import sys\n\ndef test_nothing():\n"
            "    print('ours', *sorted(name for name in sys.modules if name.startswith('pytest_flopsbudget')))\n"
        )
        result = pytester.run(sys.executable, "-X", "importtime", "-m", "pytest", "-s")
        names = ["", ".config", ".config.prescan", ".errors", ".identifiers", ".plugin"]
        names += [f".plugin.{name}" for name in ("collection", "controller", "hooks", "hookspecs", "items", "xdist")]
        result.stdout.fnmatch_lines(["*ours " + " ".join(f"pytest_flopsbudget{name}" for name in names)])
        imported = [line.rpartition("|")[2].strip() for line in result.errlines]
        assert "_pytest.config" in imported
        assert "torch" not in imported


class TestOutsideOfTheRootFolder:
    """Outside of the root folder, pytest's node ids lack the folders, so two tests may have the same id."""

    def outside(self, project):
        test = "from models import *\n\ndef test_net(flops_budget):\n    flops_budget(Net(width={}), IMAGE)\n"
        files = []
        for folder, width in (("one", 4), ("two", 5)):
            file = project.path / folder / "test_net.py"
            file.parent.mkdir()
            file.write_text(test.format(width), encoding="utf-8")
            files.append(file)
        root = project.path / "root"
        root.mkdir()
        root.joinpath("pytest.ini").write_text("[pytest]\npythonpath = ..\n", encoding="utf-8")
        return [
            "-p",
            "no:asyncio",
            f"--rootdir={root}",
            f"-c={root / 'pytest.ini'}",
            "--import-mode=importlib",
            *map(str, files),
        ], files

    @pytest.mark.parametrize("workers", [(), ("-n2",)])
    def test_each_has_its_baseline(self, project, workers):
        args, files = self.outside(project)
        result = project.run_apart("--flops-budget-update", *args, *workers)
        result.stdout.fnmatch_lines(["2 measurements: 2 new; *"])
        for file in files:
            assert load(baseline_path(file)).tests.keys() == {"test_net"}

    def test_commands_can_be_typed(self, project):
        args, files = self.outside(project)
        result = project.run_apart(*args[:-1])
        result.stdout.fnmatch_lines(["*; write it: pytest --flops-budget-update=new one/test_net.py::test_net"])
        project.run_apart("--flops-budget-update", *args)
        files[0].write_text("", encoding="utf-8")
        result = project.run_apart(*args)
        result.stdout.fnmatch_lines(["1 baseline entry without a test; *", "    one/test_net.py::test_net"])
