"""The check that an upgrade of PyTorch is no regression, in both directions.

`upgrade_project/` is a small project whose baseline was written twice: under the oldest and under the newest supported
version of PyTorch. Each environment compares what it measures with both, and turns warnings into errors.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatibility.checks import outcomes, run
from compatibility.environments import TORCHES, Environment
from pytest_flopsbudget.storage import report_file

if TYPE_CHECKING:
    from collections.abc import Iterator


PROJECT = Path(__file__).parent / "upgrade_project"
#: The versions of PyTorch under which the committed baselines were written.
WRITERS = (TORCHES[0], TORCHES[-1])
_TESTS = "test_upgrade.py"


def baseline_of(writer: str) -> Path:
    """Return the path of the baseline that was written under this minor version of PyTorch."""
    return PROJECT / "baselines" / f"pytorch-{writer}.json"


def write_baseline(environment: Environment, python: Path) -> None:
    """Write the environment's baseline, if it is one of the two that are committed and does not exist yet.

    Raises:
        RuntimeError: a test of the project failed.
    """
    target = baseline_of(environment.torch)
    if environment.torch not in WRITERS or target.exists():
        return
    with _copied_project() as folder:
        done = run([str(python), "-W", "error", "-m", "pytest", "-q", "--flops-budget-update", _TESTS], folder)
        if done.returncode:
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
        target.parent.mkdir(exist_ok=True)
        shutil.copy(folder / "__flops__" / "test_upgrade.json", target)


def upgrades(python: Path) -> dict[str, Any]:
    """Compare with each committed baseline what the environment measures.

    Returns:
        {version that wrote the baseline: {"passed": number, "failed": {test: message}, "skipped": {reason: number},
        "moved": number of values of PyTorch's kernels that differ and were not judged}}.
    """
    return {writer: _compared_with(baseline_of(writer), python) for writer in WRITERS if baseline_of(writer).exists()}


def _compared_with(baseline: Path, python: Path) -> dict[str, Any]:
    with _copied_project() as folder:
        (folder / "__flops__").mkdir()
        shutil.copy(baseline, folder / "__flops__" / "test_upgrade.json")
        command = [str(python), "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", _TESTS]
        done = run([*command, "--junit-xml=results.xml", "--flops-budget-json=report.json"], folder)
        if not (folder / "report.json").exists():
            return {"error": (done.stdout + done.stderr)[-2000:]}
        report = report_file.load(folder / "report.json")
        found = outcomes(folder / "results.xml")
    changes = [one.comparison.changes for test in report.tests for one in test.measurements]
    return {**found, "moved": sum(not change.judged for changed in changes for change in changed)}


@contextmanager
def _copied_project() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("baselines", "__pycache__"))
        yield folder
