"""Fixtures for tests that run pytest inside pytest."""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.metadata
import os
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import without_torch
from _pytest.pytester import SysModulesSnapshot
from hypothesis import HealthCheck, settings
from inner_runs import ALONE, IN_ORDER
from msgspec.structs import replace
from paths import TESTS

import pytest_flopsbudget
from pytest_flopsbudget.commands.main import main
from pytest_flopsbudget.results.data import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

# On a slow machine, an example may take longer than Hypothesis's deadline. This must not fail a test.
settings.register_profile("steady", parent=settings(), deadline=None)
settings.load_profile("steady")

if "MUTANT_UNDER_TEST" in os.environ:
    # mutmut runs the tests several times in one process, which Hypothesis would refuse. Few examples keep mutmut fast.
    settings.register_profile(
        "mutants", deadline=None, derandomize=True, max_examples=20, suppress_health_check=list(HealthCheck)
    )
    settings.load_profile("mutants")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect the tests while the garbage collector is paused, which saves five seconds and finds no garbage.

    Afterwards all modules of the package are compiled, so that the processes that tests start need not compile them.
    Then Python stores no more compiled modules: tests change a module and import it again within a second, in which
    Python would not notice the change.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        if "PYTEST_XDIST_WORKER" in os.environ:  # other runs are short, and importing all modules imports PyTorch
            for module in pkgutil.walk_packages(pytest_flopsbudget.__path__, "pytest_flopsbudget."):
                if not module.name.endswith("__main__"):
                    importlib.import_module(module.name)
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _packages_are_read_once() -> Iterator[None]:
    """Keep the metadata of the installed packages, which each inner run of pytest would read and parse again."""
    kept: dict[tuple[str, ...], list[importlib.metadata.Distribution]] = {}
    find = importlib.metadata.distributions

    def distributions() -> list[importlib.metadata.Distribution]:
        path = tuple(sys.path)
        if path not in kept:
            kept[path] = list(find())
        return kept[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "distributions", distributions)
        for name in ("entry_points", "files", "metadata"):
            once = functools.cached_property(getattr(importlib.metadata.Distribution, name).fget)
            once.__set_name__(importlib.metadata.Distribution, name)
            patch.setattr(importlib.metadata.Distribution, name, once)
        yield


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

#: The line of the class in the file models.py, which begins with the first import.
NET_LINE = 7
#: FLOPs: 2·8·8·4·3·3·3 for the convolution, 2·4·10 for the linear layer.
NET_FLOPS = 13_824 + 80
#: Parameters: 3·4·3·3 + 4 for the convolution, 4·10 + 10 for the linear layer.
NET_PARAMS = 112 + 50


#: The folders from which other processes import the tested package and the modules that tests share.
SOURCES = os.pathsep.join([str(Path(pytest_flopsbudget.__file__).parents[1]), str(TESTS)])

#: Modules of the inner run of pytest. They are removed after each run, so that the next run imports its own.
_OF_THE_INNER_RUN = ("test_", "models", "conftest")


def _all_but_tests(_pytester: pytest.Pytester) -> SysModulesSnapshot:
    """Take a snapshot of `sys.modules`. Restoring it keeps PyTorch, which cannot be loaded twice in one process."""
    return SysModulesSnapshot(preserve=lambda name: not name.startswith(_OF_THE_INNER_RUN))


@functools.cache
def recorded_nets(*sizes: tuple[int, int]) -> bytes:
    """Measure a `Net` for each (kernel, width). Return the results as JSON."""
    models: dict[str, object] = {}
    exec(MODELS, models)  # noqa: S102 -- this executes the test models defined above
    # The class has no file here. In a project, models.py defines it.
    sources = {"Net": Source(type="Net", file="models.py", line=NET_LINE)}
    measured = {
        f"{kernel},{width}": replace(
            pytest_flopsbudget.measure(models["Net"](kernel, width), models["IMAGE"]), sources=sources
        )
        for kernel, width in sizes
    }
    return msgspec.json.encode(measured)


class Project:
    """A new folder with models, in which a test writes test files and runs pytest."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        pytester.makepyfile(models=MODELS)
        pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
        # The folder has this project's pyproject; pytest.ini has priority over it for pytest's settings.
        self.baseline = self.path / "__flops__" / "test_net.json"

    def write(self, body: str, name: str = "test_net") -> None:
        """Write a test file that can use the models in `MODELS`."""
        self.pytester.makepyfile(**{name: f"import pytest\nfrom models import *\n\n{body}"})

    def settings(self, text: str) -> None:
        self.path.joinpath("pyproject.toml").write_text(text, encoding="utf-8")

    def run(self, *args: str) -> pytest.RunResult:
        alone = () if any(arg.startswith(("-n", "--dist", "--numprocesses")) for arg in args) else ALONE
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", *IN_ORDER, *alone, *args)

    def run_apart(self, *args: str) -> pytest.RunResult:
        """Run pytest in another process without PyTorch. Its models return costs that were recorded before."""
        return self._run_apart(*without_torch.ARGUMENTS, *args)

    def run_apart_with_torch(self, *args: str) -> pytest.RunResult:
        """Run pytest in another process that imports PyTorch and counts the models."""
        return self._run_apart(*args)

    def _run_apart(self, *args: str) -> pytest.RunResult:
        recorded = self.path / "recorded.json"
        recorded.write_bytes(recorded_nets(*((kernel, width) for kernel in (3, 5) for width in (4, 5, 8))))
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv(without_torch.RECORDED, str(recorded))
            environment.setenv("PYTHONPATH", SOURCES)
            return self.pytester.runpytest_subprocess("-p", "no:cacheprovider", *IN_ORDER, *args)


class Command:
    """Runs commands of this package in an empty folder."""

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
    # The tests may run inside a git repository, and the user may have changed git's settings.
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    # Let other processes import the tested package from any folder.
    monkeypatch.setenv("PYTHONPATH", str(Path(pytest_flopsbudget.__file__).parents[1]))
    return Command(capsys)


@pytest.fixture
def _keep_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    # pytester takes its snapshot of `sys.modules` when it is created, so this fixture must run first.
    monkeypatch.setattr(pytest.Pytester, "_Pytester__take_sys_modules_snapshot", _all_but_tests)


@pytest.fixture
def project(_keep_modules: None, pytester: pytest.Pytester) -> Project:
    return Project(pytester)
