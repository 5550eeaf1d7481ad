"""Run the test suites of other projects with the plugin watching, and check that no test changes its outcome.

``make elsewhere`` downloads the projects from the package index, runs their tests in temporary folders, and writes the
results to ``docs/elsewhere.md``.

``python docs/elsewhere.py NAME ...`` runs only the named projects, and does not write the page.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

import torch

PAGE = Path(__file__).with_name("elsewhere.md")
BEGIN, END = "<!-- results of make elsewhere: begin -->\n", "<!-- results of make elsewhere: end -->\n"
#: A pytest plugin for both runs. It sets the seeds before each test: a test that draws random numbers, and sometimes
#: fails by chance, then draws the same numbers in both runs. torchvision's operators are built for PyTorch with CUDA
#: and do not load without it. A library that uses only torchvision's image transforms, which are Python code, works
#: once the two operators that the import needs are defined.
BOTH_RUNS = """
import random

import numpy
import pytest
import torch

try:
    import torchvision
except ImportError:
    pass
except RuntimeError:
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    for seed in (random.seed, numpy.random.seed, torch.manual_seed):
        seed(0)
"""
SETTINGS = '[tool.pytest-flopsbudget]\nwatch = ["*"]\n'
#: Peak memory may be a tenth higher than without the plugin.
MEMORY = 1.1


@dataclass(frozen=True)
class Project:
    """A project whose source distribution contains its tests."""

    #: The requirement that names one version of the project.
    requirement: str
    #: Arguments of pytest: the tests that are run. They take about a minute without the plugin.
    tests: tuple[str, ...]
    #: The packages that the project needs besides PyTorch. They are installed without their requirements, so that
    #: PyTorch stays the same.
    beside: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


PROJECTS = (
    Project("vit-pytorch==1.26.11", ("tests",), ("einops==0.8.2", "torchvision==0.28.*", "pillow")),
    Project("einops==0.8.2", ("einops/tests",), environment={"EINOPS_TEST_BACKENDS": "numpy,torch"}),
    Project("ema-pytorch==0.8.3", ("tests",)),
    Project("tensorly-torch==0.5.0", ("tltorch",), ("tensorly==0.10.0", "scipy==1.17.1", "opt-einsum==3.4.0")),
    Project(
        "pytorch_optimizer==4.1.0",
        # Left out: tests that compile models or compare matrix functions, which take most of the time, and tests whose
        # processes must end within 45 seconds, which they do not always do on a busy machine.
        (
            "tests",
            "--ignore=tests/test_create_optimizer.py",
            "--ignore=tests/utils/test_matrix.py",
            "--deselect=tests/optimizers/test_muon.py::TestMuon::test_sharded_updates",
        ),
    ),
)


@dataclass(frozen=True)
class Run:
    """One run of the tests of a project."""

    #: Test → "passed", "failure", "error" or "skipped".
    outcomes: dict[str, str]
    #: Processor time in seconds, of all threads and child processes.
    seconds: float
    #: Peak resident memory in bytes, of the largest process.
    memory: int
    #: What pytest printed.
    output: str

    @property
    def passed(self) -> int:
        """Return the number of tests that passed."""
        return sum(outcome == "passed" for outcome in self.outcomes.values())


def _pip(*args: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *args], check=True)  # noqa: S603


def _unpacked(requirement: str, folder: Path) -> Path:
    _pip("download", "--no-deps", "--no-binary", ":all:", "--dest", str(folder), requirement)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "source", filter="data")
    (root,) = (folder / "source").iterdir()
    return root


def _run(project: Project, root: Path, packages: Path, *args: str) -> Run:
    """Run the tests of the project in a new process with one thread."""
    results, printed = packages / "results.xml", packages / "output.txt"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "both_runs", *args]
    command += ["--override-ini=addopts=", f"--junit-xml={results}", *project.tests]
    path = os.pathsep.join([str(root), str(packages), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        **project.environment,
        "PYTHONPATH": path,
    }
    with printed.open("w", encoding="utf-8") as output:
        started = subprocess.Popen(  # noqa: S603
            command, cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        # Popen.wait does not return the processor time and the memory of the process; os.wait4 does.
        _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    text = printed.read_text(encoding="utf-8")
    if started.returncode not in {0, 1}:  # pytest exits with 1 where tests failed
        message = f"pytest exited with {started.returncode} for {project.requirement}:\n{text[-3000:]}"
        raise RuntimeError(message)
    suite = ET.parse(results).getroot()  # noqa: S314 -- pytest wrote this file
    outcomes = {
        f"{case.get('classname')}::{case.get('name')}": next(
            (part.tag for part in case if part.tag in {"failure", "error", "skipped"}), "passed"
        )
        for case in suite.iter("testcase")
    }
    # Linux gives the peak in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(outcomes, used.ru_utime + used.ru_stime, used.ru_maxrss * unit, text)


def _compared(project: Project) -> tuple[Run, Run]:
    """Run the tests of a project without the plugin, then with the plugin watching. Return both runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root, packages = _unpacked(project.requirement, folder), folder / "packages"
        packages.mkdir()
        if project.beside:
            _pip("install", "--no-deps", "--target", str(packages), *project.beside)
        (packages / "both_runs.py").write_text(BOTH_RUNS, encoding="utf-8")
        # In this copy, the plugin's settings replace the project's pyproject.toml, for both runs.
        (root / "pyproject.toml").write_text(SETTINGS, encoding="utf-8")
        plain = _run(project, root, packages, "-p", "no:flopsbudget")
        return plain, _run(project, root, packages, "--flops-budget-update")


def _differing(plain: Run, watched: Run) -> list[str]:
    """Return a line for each test with different outcomes in the two runs."""
    return [
        f"{test}: {before} without the plugin, {now} watched"
        for test in sorted({*plain.outcomes, *watched.outcomes})
        if (before := plain.outcomes.get(test, "not run")) != (now := watched.outcomes.get(test, "not run"))
    ]


def _measurements(run: Run) -> str:
    """Return the number of measurements in the summary of a watched run, as text."""
    line = next((line for line in run.output.splitlines() if " measurements: " in line), "0 ")
    return line.partition(" ")[0]


def _row(project: Project, plain: Run, watched: Run) -> str:
    cells = (
        project.requirement.replace("==", " "),
        f"`{' '.join(project.tests)}`",
        f"{len(plain.outcomes):,}",
        f"{plain.passed:,}",
        _measurements(watched),
        str(len(_differing(plain, watched))),
        f"{plain.memory / 2**20:,.0f} MiB",
        f"{watched.memory / 2**20:,.0f} MiB ({watched.memory / plain.memory:.2f})",
        f"{plain.seconds:.0f} s",
        f"{watched.seconds:.0f} s ({watched.seconds / plain.seconds:.2f})",
    )
    return f"| {' | '.join(cells)} |\n"


COLUMNS = (
    *("project", "arguments of pytest", "tests", "pass without the plugin", "measurements", "outcomes that differ"),
    *("peak memory", "watched (ratio)", "processor time", "watched (ratio)"),
)
HEADER = f"| {' | '.join(COLUMNS)} |\n|---|---|{'--:|' * (len(COLUMNS) - 2)}\n"


def main(names: list[str]) -> int:
    """Run the named projects, or all projects if ``names`` is empty. Return 1 if there was a problem, else 0."""
    rows, wrong = "", []
    for project in PROJECTS:
        name = project.requirement.partition("==")[0]
        if names and name not in names:
            continue
        plain, watched = _compared(project)
        row = _row(project, plain, watched)
        wrong += [f"{name}: {line}" for line in _differing(plain, watched)]
        if watched.memory > MEMORY * plain.memory:
            wrong.append(f"{name}: peak memory is {watched.memory / plain.memory:.2f} times that without the plugin")
        if not plain.passed:
            wrong.append(f"{name}: no test passes without the plugin")
        if _measurements(watched) == "0":
            wrong.append(f"{name}: nothing was measured")
        sys.stdout.write(row)
        sys.stdout.flush()
        rows += row
    listed = (
        "".join(f"- {line}\n" for line in wrong) or "No outcome differs, and no peak is more than a tenth higher.\n"
    )
    sys.stdout.write(listed)
    if not names:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        version = f"PyTorch {torch.__version__}, Python {sys.version.partition(' ')[0]}, CPU, 1 thread:\n\n"
        PAGE.write_text(f"{before}{BEGIN}\n{version}{HEADER}{rows}\n{listed}\n{END}{after}", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
