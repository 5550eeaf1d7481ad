"""Watch the test suite of another project: each test must end as it does without the plugin, and a baseline is written.

``make elsewhere`` downloads the source distribution of a library from the package index, which needs the network. It
changes neither the library nor this project's environment: the library is unpacked to a temporary folder, and the
packages that it needs besides PyTorch are installed there too.
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

#: A library of small models in plain PyTorch whose source distribution contains its tests.
LIBRARY = "vit-pytorch==1.26.11"
#: The packages that it imports besides PyTorch. Their requirements are not installed, so that PyTorch stays the same.
BESIDE = ("einops==0.8.2", "torchvision==0.28.*", "pillow")
#: The library uses torchvision's image transforms, which are Python code. torchvision's operators are built for PyTorch
#: with CUDA and do not load without it; this defines the two operators that its import then needs.
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
    """Run the suite; return test → outcome, the seconds of the run, and its output."""
    results = packages / "results.xml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "without_operators", *args]
    command += [f"--junit-xml={results}", "tests"]
    path = os.pathsep.join([str(tests), str(packages), os.environ.get("PYTHONPATH", "")])
    begin = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        command, cwd=tests, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begin
    suite = ET.parse(results).getroot()  # noqa: S314 -- pytest wrote this file
    ended = {
        f"{case.get('classname')}::{case.get('name')}": next(
            (part.tag for part in case if part.tag in {"failure", "error", "skipped"}), "passed"
        )
        for case in suite.iter("testcase")
    }
    return ended, seconds, done.stdout


def main() -> int:
    """Run the suite without the plugin, then watched, then watched and compared with its first baseline."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root, packages = _unpacked(folder), folder / "packages"
        _pip("install", "--no-deps", "--target", str(packages), *BESIDE)
        (packages / "without_operators.py").write_text(WITHOUT_OPERATORS, encoding="utf-8")
        plain, plain_seconds, _ = _run(root, packages, "-p", "no:flopsbudget")
        # The library's pyproject.toml in this copy is replaced by the settings of the plugin.
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
            f"compared with that baseline in a second run, these differ: {', '.join(differing) or 'none'}",
            f"{plain_seconds:.1f} s without the plugin, {seconds:.1f} s watched",
        ]
        sys.stdout.write("\n".join(lines) + "\n")
        return 0 if watched == plain and baselines and passed else 1


if __name__ == "__main__":
    sys.exit(main())
