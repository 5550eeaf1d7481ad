"""The checks of an environment: the test suite, the examples, warnings, and the sweep."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

from compatibility.environments import ROOT
from pytest_flopsbudget.storage import baseline, report_file

#: The metrics that belong to the model. They must not depend on the version of PyTorch.
OF_THE_MODEL = (
    *("flops", "macs", "other_flops", "recomputed_flops", "activations"),
    *("params", "trainable_params", "param_bytes", "buffer_bytes"),
)
_EXAMPLES = ROOT / "docs" / "examples"
#: Filters of pytest: all warnings are errors, except that torchao 0.15 and 0.16 import deprecated modules of their own.
_WARNINGS = "error\nignore:Importing .*torchao:DeprecationWarning"


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without access to model hubs, and keep its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def suite(python: Path, tests: list[str], *options: str) -> dict[str, Any]:
    """Run the test suite, or the named part. Return the number of passed tests, and the failed and skipped tests."""
    with tempfile.TemporaryDirectory() as name:
        results = Path(name) / "results.xml"
        command = [str(python), "-m", "pytest", "-n", "2", "--dist", "worksteal", "-q", "-p", "no:cacheprovider"]
        done = run([*command, f"--junit-xml={results}", *options, *tests], ROOT)
        nothing_ran = done.returncode in {3, 4, 5}  # pytest failed, a path does not exist, or no test was found
        if not results.exists() or nothing_ran:
            return {"tests": tests, "error": (done.stdout + done.stderr)[-2000:]}
        return {"tests": tests, **outcomes(results)}


def outcomes(results: Path) -> dict[str, Any]:
    """Read the JUnit report of a run: {"passed": number, "failed": {test: message}, "skipped": {reason: number}}."""
    passed, failed, skipped = 0, {}, Counter[str]()
    for case in ET.parse(results).getroot().iter("testcase"):  # noqa: S314 -- pytest wrote this file
        bad = next((part for part in case if part.tag in {"failure", "error"}), None)
        left_out = next((part for part in case if part.tag == "skipped"), None)
        if bad is not None:
            # In some ids of parametrized tests and in many messages there are addresses, which differ in each run.
            message = re.sub(r"0x[0-9a-f]+", "0x", (bad.get("message") or bad.tag).partition("\n")[0])
            failed[f"{case.get('classname')}::{case.get('name')}"] = message[:200]
        elif left_out is not None:
            skipped[_reason(left_out)] += 1
        else:
            passed += 1
    return {"passed": passed, "failed": dict(sorted(failed.items())), "skipped": dict(sorted(skipped.items()))}


def _reason(skipped: ET.Element) -> str:
    """Return why a test was skipped. Where a whole file was, only the text of the element has the reason."""
    message = (skipped.get("message") or "").partition("\n")[0]
    of_file = re.search(r"Skipped: (.*)'\)", skipped.text or "")
    return of_file[1] if of_file and message == "collection skipped" else message


def examples(python: Path) -> dict[str, Any]:
    """Measure the examples, and compare each with the baseline that the repository has."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "report.json"
        command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_models.py"]
        done = run([*command, f"--flops-budget-json={path}"], _EXAMPLES)  # the verdicts do not matter
        if not path.exists():
            return {"error": (done.stdout + done.stderr)[-2000:]}
        report = report_file.load(path)
    accepted = baseline.load(_EXAMPLES / "__flops__" / "test_models.json").tests
    measured = {
        test.nodeid.partition("::")[2]: dict(one.complexity.metrics)
        for test in report.tests
        for one in test.measurements
    }
    expected = {test: dict(one.metrics) for test, named in accepted.items() for one in named.values()}
    return compared(measured, expected)


def warnings_as_errors(python: Path) -> dict[str, Any]:
    """Run the examples with ``python -W error``. A warning in a measurement fails its test."""
    with tempfile.TemporaryDirectory() as name:
        results = Path(name) / "results.xml"
        command = [str(python), "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_models.py"]
        done = run([*command, f"--override-ini=filterwarnings={_WARNINGS}", f"--junit-xml={results}"], _EXAMPLES)
        return outcomes(results) if results.exists() else {"error": (done.stdout + done.stderr)[-2000:]}


def sweep(python: Path) -> dict[str, Any]:
    """Count the models of the sweep in a new process of the environment. Return {case: {metric: value}}.

    Raises:
        RuntimeError: the process failed.
    """
    done = run([str(python), "-m", "compatibility.sweep"], ROOT / "docs")
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Compare {case: {metric: value}} with the expected values. A case that failed has a text in place of the metrics.

    Returns:
        {"cases": number, "equal": number of cases whose metrics of the model are equal, "differ": {case: text},
        "kernels": {metric of PyTorch's kernels: number of cases in which it differs}}.
    """
    differ: dict[str, str] = {}
    kernels = Counter[str]()
    for case, wanted in expected.items():
        got = found.get(case, "not measured")
        if isinstance(got, str) or isinstance(wanted, str):
            if got != wanted:
                differ[case] = str(got)
            continue
        wrong = [key for key in OF_THE_MODEL if got.get(key) != wanted.get(key)]
        if wrong:
            differ[case] = ", ".join(f"{key} {got.get(key)} for {wanted.get(key)}" for key in wrong)
        for key in wanted:
            if key not in OF_THE_MODEL and "[" not in key and got.get(key) != wanted[key]:
                kernels[key] += 1
    return {
        "cases": len(expected),
        "equal": len(expected) - len(differ),
        "differ": differ,
        "kernels": dict(sorted(kernels.items())),
    }
