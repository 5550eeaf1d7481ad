"""``--flops-budget-compare`` measures another revision first, and judges growth against it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from conftest import NET_FLOPS
from samples import GitProject

from pytest_flopsbudget.plugin.at_revision import foreign_modules
from pytest_flopsbudget.plugin.other_revision import _moved_folders, moved_argument

OLD = """
def test_grown(flops_budget):
    flops_budget(Net(), IMAGE)

def test_gone(flops_budget):
    flops_budget(Net(), IMAGE)

@pytest.mark.parametrize("width", [4, 5])
def test_equal(flops_budget, width):
    flops_budget(Net(width=width), IMAGE)

@pytest.mark.flops_budget(flops=1)
def test_over_its_limit(flops_budget):
    flops_budget(Net(), IMAGE)
"""
NEW = OLD.replace("Net(), IMAGE", "Net(kernel=5), IMAGE", 1).replace("test_gone", "test_come").replace("flops=1", "")
#: 2·8·8·4·3·5·5 for the convolution, 2·4·10 for the linear layer.
GROWN_FLOPS = 38_400 + 80


@pytest.fixture
def repository(project, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.path.parent))
    git = GitProject(project.path)
    project.write(OLD)
    git.commit("Old")
    project.git = git.git
    project.write(NEW)
    return project


def lines_of(result):
    return result.stdout.str().splitlines()


def test_growth(repository):
    """A baseline file is not read: here it has the measurements of the working tree."""
    repository.run("--flops-budget-update")
    baseline = repository.baseline.read_bytes()
    head = repository.git("rev-parse", "HEAD")
    result = repository.run_apart("--flops-budget-compare=HEAD", "--flops-budget-json=report.json")
    result.assert_outcomes(passed=4, failed=1)
    lines = lines_of(result)
    growth = 100 * (GROWN_FLOPS - NET_FLOPS) / NET_FLOPS
    assert f"flops +{growth:.1f}% over its baseline by stem in test_grown" in lines
    allowed = f'tolerance="{int(growth) + 1}%"'
    assert f"before: measured at HEAD; to allow the growth: @pytest.mark.flops_budget({allowed})" in lines
    assert "measured only here, not at HEAD: test_net.py::test_come" in lines
    assert "measured only at HEAD, not here: test_net.py::test_gone" in lines
    assert "flops-budget-update" not in "\n".join(lines)
    assert repository.baseline.read_bytes() == baseline
    assert repository.git("rev-parse", "HEAD") == head
    assert repository.git("worktree", "list").count("\n") == 0
    report = json.loads(repository.path.joinpath("report.json").read_text(encoding="utf-8"))
    assert [cause.get("accept", "") for cause in report["causes"]] == [""]
    # The text of the failure can be typed.
    repository.write(NEW.replace("def test_grown", f"@pytest.mark.flops_budget({allowed})\ndef test_grown"))
    repository.run_apart("--flops-budget-compare=HEAD").assert_outcomes(passed=5)


def test_workers_and_tests_by_name(repository):
    """The option may be in ``addopts``: the run at the other revision does not compare again."""
    repository.path.joinpath("pytest.ini").write_text(
        "[pytest]\naddopts = --flops-budget-compare=HEAD\nasyncio_default_fixture_loop_scope = function\n",
        encoding="utf-8",
    )
    names = ("test_net.py::test_grown", "test_net.py::test_equal[4]", "test_net.py::test_come")
    result = repository.run_apart("-n2", *names)
    result.assert_outcomes(passed=2, failed=1)
    lines = lines_of(result)
    assert "measured only here, not at HEAD: test_net.py::test_come" in lines
    assert not [line for line in lines if line.startswith("measured only at")]


@pytest.mark.parametrize("way", ["a new file", "a new folder"])
def test_only_new_tests(repository, way):
    folder = repository.path / ("below" if way == "a new folder" else "")
    folder.mkdir(exist_ok=True)
    folder.joinpath("test_new.py").write_text(
        "from models import Net, IMAGE\ndef test_a(flops_budget):\n    flops_budget(Net(), IMAGE)\n", encoding="utf-8"
    )
    result = repository.run_apart("--flops-budget-compare=HEAD", str(folder / "test_new.py"))
    result.assert_outcomes(passed=1)
    nodeid = folder.joinpath("test_new.py").relative_to(repository.path).as_posix() + "::test_a"
    assert f"measured only here, not at HEAD: {nodeid}" in lines_of(result)


def test_a_file_that_cannot_be_imported_there(repository):
    repository.write(f"import no_such_module\n{OLD}", "test_broken")
    repository.git("add", ".")
    repository.git("commit", "-qm", "Broken")
    repository.write(OLD, "test_broken")
    lines = lines_of(repository.run_apart("--flops-budget-compare=HEAD", "test_broken.py"))
    error = "ModuleNotFoundError: No module named 'no_such_module'"
    assert f"not compared, because of an error at HEAD: test_broken.py: {error}" in lines
    assert not [line for line in lines if line.startswith("measured only")]


def test_a_test_that_fails_there_before_it_measures(repository):
    failing = "def test_it(flops_budget):\n    assert {}\n    flops_budget(Net(), IMAGE)\n"
    repository.write(failing.format(0), "test_it")
    repository.git("add", ".")
    repository.git("commit", "-qm", "Failing")
    repository.write(failing.format(1), "test_it")
    lines = lines_of(repository.run_apart("--flops-budget-compare=HEAD", "test_it.py"))
    why = "it failed before it measured anything"
    assert f"not compared, because of an error at HEAD: test_it.py::test_it: {why}" in lines
    assert not [line for line in lines if line.startswith("measured only")]


class TestRootFolders:
    """Node ids begin at pytest's root folder. If the runs had different ones, no test would be compared."""

    FAILED = f"flops +{100 * (GROWN_FLOPS - NET_FLOPS) / NET_FLOPS:.1f}% over its baseline by stem in "

    def test_an_ini_file_that_is_newer_than_the_revision(self, repository, monkeypatch):
        """Without an ini file, pytest takes the folder where it was started."""
        folder = repository.path / "tests"
        folder.mkdir()
        for name in ("test_net.py", "models.py"):
            text = repository.path.joinpath(name).read_text(encoding="utf-8")
            folder.joinpath(name).write_text(text.replace("Net(kernel=5)", "Net()"), encoding="utf-8")
        settings = [path for path in repository.path.iterdir() if path.suffix in {".toml", ".ini"}]
        for path in settings:
            path.unlink()
        repository.git("add", "-A")
        repository.git("commit", "-qm", "Without an ini file")
        repository.path.joinpath("pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        folder.joinpath("test_net.py").write_text(
            repository.path.joinpath("test_net.py").read_text(encoding="utf-8"), encoding="utf-8"
        )
        monkeypatch.chdir(folder)
        result = repository.run_apart("--flops-budget-compare=HEAD", "--", "test_net.py::test_grown")
        result.assert_outcomes(failed=1)
        assert f"{self.FAILED}test_grown" in lines_of(result)

    def test_in_the_environment(self, repository, monkeypatch):
        monkeypatch.setenv("PYTEST_ADDOPTS", f"--rootdir={repository.path}")
        result = repository.run_apart("--flops-budget-compare=HEAD", "test_net.py::test_grown")
        assert f"{self.FAILED}test_grown" in lines_of(result)

    def test_around_the_repository(self, repository):
        """A submodule may be tested with the ini file of the repository that contains it."""
        result = repository.run_apart("--flops-budget-compare=HEAD", f"--rootdir={repository.path.parent}")
        result.assert_outcomes(passed=4, failed=1)

    def test_elsewhere(self, repository, tmp_path_factory):
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        result = repository.run("--flops-budget-compare=HEAD", f"--rootdir={elsewhere}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert f"pytest's root folder {elsewhere} is outside of the repository" in result.stderr.str()


@pytest.mark.parametrize(
    ("argument", "moved"),
    [
        ("{top}/tests/test_a.py::test_b[/x::y]", "/tree/tests/test_a.py::test_b[/x::y]"),
        ("{link}/tests", "/tree/tests"),
        ("--rootdir={top}", "/tree"),
        ("-c{link}/pytest.ini", "/tree/pytest.ini"),
        ("{top}-2/tests", None),
        ("--ignore={top}s", None),
        ("tests/test_a.py", None),
        ("-k{top}", "/tree"),
        ("-n2", None),
    ],
)
def test_moved_arguments(tmp_path, argument, moved):
    top, link = tmp_path / "top", tmp_path / "link"
    top.mkdir()
    link.symlink_to(top)
    given = argument.format(top=top, link=link)
    option = given[: given.index("=") + 1] if given.startswith("--") else given[:2] if given.startswith("-") else ""
    assert moved_argument(given, top, Path("/tree")) == (given if moved is None else option + moved)


class TestMistakes:
    def test_no_such_revision(self, repository):
        result = repository.run("--flops-budget-compare=origin/main")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert result.stderr.str().strip() == (
            "ERROR: --flops-budget-compare=origin/main: git knows no such branch, tag or commit here; "
            "fetch it first, for example: git fetch origin main"
        )

    def test_no_repository(self, project, monkeypatch):
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.path.parent))
        project.write(OLD)
        result = project.run("--flops-budget-compare=HEAD")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert re.match(r"ERROR: --flops-budget-compare=HEAD: .*: git: not a git repository", result.stderr.str())

    @pytest.mark.parametrize("flag", ["--flops-budget-update", "--flops-budget-prune", "--flops-budget-disable"])
    def test_contradictions(self, repository, flag):
        result = repository.run("--flops-budget-compare=HEAD", flag)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert result.stderr.str().startswith(f"ERROR: {flag} and --flops-budget-compare contradict each other")

    def test_pytest_cannot_run_there(self, repository):
        broken = repository.path / "conftest.py"
        broken.write_text("raise SystemExit('no such machine')", encoding="utf-8")
        repository.git("add", ".")
        repository.git("commit", "-qm", "Broken")
        broken.write_text("", encoding="utf-8")
        result = repository.run_apart("--flops-budget-compare=HEAD")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        text = result.stderr.str()
        assert "ERROR: --flops-budget-compare=HEAD: pytest ended with exit code 1 there. The end of its" in text
        assert "    no such machine" in text
        assert repository.git("worktree", "list").count("\n") == 0

    def test_the_code_of_this_checkout(self, repository):
        """A test that imports from a fixed path would measure the same code twice."""
        repository.path.joinpath("layers.py").write_text("", encoding="utf-8")
        fixed = f"import sys\nsys.path.insert(0, {str(repository.path)!r})\nimport layers\n"
        repository.write(fixed + OLD)
        repository.git("add", ".")
        repository.git("commit", "-qm", "Fixed path")
        result = repository.run_apart("--flops-budget-compare=HEAD", "-p", "no:cacheprovider")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "imported layers from this checkout (layers.py), so they would measure" in result.stderr.str()


def test_nothing_is_measured_to_collect(repository):
    result = repository.run("--flops-budget-compare=no-such-revision", "--collect-only", "-q")
    assert result.ret == 0


class TestFolders:
    def test_moved(self, tmp_path, monkeypatch):
        """A package in ``src`` that is installed as editable is found in the other tree, and ``.venv`` is not."""

        class Finder:
            pass

        finder = sys.modules[__name__]
        monkeypatch.setattr(finder, "MAPPING", {"mapped": str(tmp_path / "lib" / "mapped")}, raising=False)
        monkeypatch.setattr(sys, "meta_path", [Finder])
        monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
        monkeypatch.setattr(sys, "path", [str(tmp_path / "src"), str(tmp_path / ".venv" / "lib"), "/elsewhere"])
        assert _moved_folders(tmp_path, Path("/tree")) == ["/tree/src", "/tree/lib"]

    def test_foreign(self, tmp_path, monkeypatch):
        for name in ("ours", "installed"):
            module = type(sys)(name)
            module.__file__ = str(tmp_path / (".venv" if name == "installed" else "") / f"{name}.py")
            monkeypatch.setitem(sys.modules, name, module)
        assert foreign_modules(tmp_path, [str(tmp_path / ".venv")]) == {"ours": "ours.py"}
