"""Puts somebody else's test suite under watch: the same tests have to pass with and without, and a baseline is drawn.

``make elsewhere`` takes the source distribution of a library from the package index, which needs the network, and
touches neither it nor this project's environment: it is unpacked to a folder of its own, and what it needs besides
PyTorch goes there too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

#: A library of small models in plain PyTorch whose source distribution carries its tests.
LIBRARY = "vit-pytorch==1.26.11"
#: What it imports besides PyTorch; without their own requirements, so that PyTorch stays the one that is here.
BESIDE = ("einops==0.8.2", "torchvision==0.28.*", "pillow")
#: The library takes image transforms from torchvision, which are Python. Its operators are built for PyTorch with CUDA;
#: beside a PyTorch without, they do not load, and then it misses two that it describes.
WITHOUT_OPERATORS = """
import torch

try:
    import torchvision
except RuntimeError:
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
SETTINGS = '[tool.pytest-flopsbudget]\nwatch = ["*"]\n'


def _pip(*args: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *args], check=True)  # noqa: S603


def _unpacked(folder: Path) -> Path:
    _pip("download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", str(folder), LIBRARY)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "source", filter="data")
    (root,) = (folder / "source").iterdir()
    return root


def _run(tests: Path, packages: Path, *args: str) -> tuple[dict[str, str], float, str]:
    """(test → how it ended, seconds of all tests, the last lines) of a run of the suite."""
    results = packages / "results.xml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "without_operators", *args]
    command += [f"--junit-xml={results}", "tests"]
    path = os.pathsep.join([str(tests), str(packages), os.environ.get("PYTHONPATH", "")])
    begin = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        command, cwd=tests, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begin
    suite = ET.parse(results).getroot()  # noqa: S314 -- pytest wrote it just now
    ended = {
        f"{case.get('classname')}::{case.get('name')}": next(
            (part.tag for part in case if part.tag in {"failure", "error", "skipped"}), "passed"
        )
        for case in suite.iter("testcase")
    }
    return ended, seconds, done.stdout


def main() -> int:
    """Run the suite without the plugin, watched, and watched against its first baseline."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root, packages = _unpacked(folder), folder / "packages"
        _pip("install", "--no-deps", "--target", str(packages), *BESIDE)
        (packages / "without_operators.py").write_text(WITHOUT_OPERATORS, encoding="utf-8")
        plain, plain_seconds, _ = _run(root, packages, "-p", "no:flopsbudget")
        # A project of its own, whose pyproject is not ours to change: pytest is given another root.
        (root / "pyproject.toml").write_text(SETTINGS, encoding="utf-8")
        watched, seconds, text = _run(root, packages, "--flops-budget-update")
        again, _, _ = _run(root, packages)
        baselines = sorted(path.relative_to(root).as_posix() for path in root.rglob("__flops__/*.json"))
        passed = sum(outcome == "passed" for outcome in plain.values())
        differing = [test for test, outcome in again.items() if outcome != watched.get(test)]
        lines = [
            text[text.find("= flops budgets") :].partition("\n")[2].partition("short test summary")[0],
            f"{LIBRARY}: {len(plain)} tests, of which {passed} pass without the plugin",
            f"baselines: {', '.join(baselines)}",
            f"watched, each test ends as it does without the plugin: {'yes' if watched == plain else 'no'}",
            f"held to that baseline in a second run, these differ: {', '.join(differing) or 'none'}",
            f"{plain_seconds:.1f} s without the plugin, {seconds:.1f} s watched",
        ]
        sys.stdout.write("\n".join(lines) + "\n")
        return 0 if watched == plain and baselines and passed else 1


if __name__ == "__main__":
    sys.exit(main())
