"""Fixtures for tests that run pytest inside pytest."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import msgspec
import pytest
import without_torch
from _pytest.pytester import SysModulesSnapshot
from hypothesis import HealthCheck, settings
from paths import TESTS

import pytest_flopsbudget
from pytest_flopsbudget.commands.main import main

# On a slow machine an example may exceed Hypothesis's deadline, which is not a failure.
settings.register_profile("steady", parent=settings(), deadline=None)
settings.load_profile("steady")
if "MUTANT_UNDER_TEST" in os.environ:
    # mutmut runs the tests several times in one process, which Hypothesis would refuse; few examples keep mutmut fast.
    settings.register_profile(
        "mutants", deadline=None, derandomize=True, max_examples=20, suppress_health_check=list(HealthCheck)
    )
    settings.load_profile("mutants")

MODELS = """
import torch
from torch import nn

IMAGE = torch.empty(1, 3, 8, 8)


class Net(nn.Module):
    def __init__(self, kernel=3, width=4):
        super().__init__()
        self.stem = nn.Conv2d(3, width, kernel, padding=kernel // 2)
        self.head = nn.Linear(width, 10)

    def forward(self, image):
        return self.head(self.stem(image).mean((2, 3)))
"""

#: FLOPs: 2·8·8·4·3·3·3 for the convolution, 2·4·10 for the linear layer.
NET_FLOPS = 13_824 + 80
#: Parameters: 3·4·3·3 + 4 and 4·10 + 10.
NET_PARAMS = 112 + 50


#: The folders from which other processes import the tested package and the modules that tests share.
SOURCES = os.pathsep.join([str(Path(pytest_flopsbudget.__file__).parents[1]), str(TESTS)])

#: Modules in the files of the inner run, which are imported again for each run.
_OF_THE_INNER_RUN = ("test_", "models", "conftest")


def _all_but_tests(_pytester: pytest.Pytester) -> SysModulesSnapshot:
    """pytester restores `sys.modules` after a run in this process, except PyTorch, which cannot load twice."""
    return SysModulesSnapshot(preserve=lambda name: not name.startswith(_OF_THE_INNER_RUN))


@functools.cache
def recorded_nets(*sizes: tuple[int, int]) -> bytes:
    """Return the measurement of a `Net` for each (kernel, width), for runs of pytest that must not import PyTorch."""
    models: dict[str, object] = {}
    exec(MODELS, models)  # noqa: S102 -- what the tests' own models are
    measured = {
        f"{kernel},{width}": pytest_flopsbudget.measure(models["Net"](kernel, width), models["IMAGE"])
        for kernel, width in sizes
    }
    return msgspec.json.encode(measured)


class Project:
    """An empty folder in which a user writes tests."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        pytester.makepyfile(models=MODELS)
        pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
        # The folder has this project's pyproject; pytest.ini has priority over it for pytest's settings.
        self.baseline = self.path / "__flops__" / "test_net.json"

    def write(self, body: str, name: str = "test_net") -> None:
        """Write a test file that can use the models above."""
        self.pytester.makepyfile(**{name: f"import pytest\nfrom models import *\n\n{body}"})

    def settings(self, text: str) -> None:
        """Write the pyproject."""
        self.path.joinpath("pyproject.toml").write_text(text, encoding="utf-8")

    def run(self, *args: str) -> pytest.RunResult:
        """Run pytest in this process."""
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", *args)

    def run_apart(self, *args: str) -> pytest.RunResult:
        """Run pytest in another process, which never imports PyTorch; the cost of each model was counted before."""
        return self._run_apart(*without_torch.ARGUMENTS, *args)

    def run_apart_with_torch(self, *args: str) -> pytest.RunResult:
        """Run pytest in another process, which counts with PyTorch."""
        return self._run_apart(*args)

    def _run_apart(self, *args: str) -> pytest.RunResult:
        recorded = self.path / "recorded.json"
        recorded.write_bytes(recorded_nets(*((kernel, width) for kernel in (3, 5) for width in (4, 5, 8))))
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv(without_torch.RECORDED, str(recorded))
            environment.setenv("PYTHONPATH", SOURCES)
            return self.pytester.runpytest_subprocess("-p", "no:cacheprovider", *args)


class Command:
    """Run the command line, in an empty folder."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.code = 0
        self.errors = ""

    def __call__(self, *argv: object) -> list[str]:
        """Run a command in this process and return the lines of its output."""
        self._capsys.readouterr()
        self.code = main([str(word) for word in argv])
        out, self.errors = self._capsys.readouterr()
        return out.splitlines()


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    # The tests may run inside a git repository, and the user may have settings of git.
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    # Other processes import the tested package, whatever their current folder is.
    monkeypatch.setenv("PYTHONPATH", str(Path(pytest_flopsbudget.__file__).parents[1]))
    return Command(capsys)


@pytest.fixture
def _keep_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    # This fixture runs before pytester is created, because pytester takes a snapshot of `sys.modules` then.
    monkeypatch.setattr(pytest.Pytester, "_Pytester__take_sys_modules_snapshot", _all_but_tests)


@pytest.fixture
def project(_keep_modules: None, pytester: pytest.Pytester) -> Project:
    return Project(pytester)
