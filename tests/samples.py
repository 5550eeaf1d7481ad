"""Small measurements, baselines and git repositories, which need no model."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from budgets import budget

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.identifiers import baseline_path
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module, Operator
from pytest_flopsbudget.results.report import Report, ReportedTest, Run, make_report
from pytest_flopsbudget.results.verdict import Measurement, judge
from pytest_flopsbudget.storage.baseline import BaselineFile, save

if TYPE_CHECKING:
    from pathlib import Path


def linear(width: int = 4, *, batch: int = 2, model: str = "Net", extra: int = 0) -> Complexity:
    """Build the measurement of a linear layer in a model. The model itself has ``extra`` FLOPs."""
    flops, params = 2 * batch * width * width, width * width + width
    metrics = {"flops": flops, "params": params, "trainable_params": params, "param_bytes": 4 * params}
    total = metrics | {"flops": flops + extra}
    return Complexity(
        model=model,
        inputs=(f"float32[{batch}, {width}]",),
        execution="shapes",
        metrics=total,
        modules={
            "": Module(type=model, calls=1, metrics=total),
            "layer": Module(type="Linear", shape=f"{width}->{width}", calls=1, metrics=metrics),
        },
        operators={"aten.mm": Operator(calls=1, metrics={"flops": flops})},
    )


def write_baseline(test_file: Path, tests: dict[str, Complexity | dict[str, Complexity]]) -> Path:
    """Write the baseline of ``test_file``. ``tests`` is {test id: measurement, or {name: measurement}}."""
    path = baseline_path(test_file)
    named = {key: value if isinstance(value, dict) else {"model": value} for key, value in tests.items()}
    save(BaselineFile(path, named))
    return path


def reported_test(
    nodeid: str,
    new: Complexity | dict[str, Complexity],
    old: Complexity | None = None,
    *,
    flops_limit: int | None = None,
    own_failure: bool = False,
    settings: Settings | None = None,
    line: int = 1,
) -> ReportedTest:
    """Build a test of a report. Its measurements are compared with ``old`` and with the limit on FLOPs."""
    budgets = [] if flops_limit is None else [budget(source="marker", limits={"flops": flops_limit})]
    named = new if isinstance(new, dict) else {"model": new}
    measurements = tuple(
        judge(Measurement(name=name, complexity=one), budgets, settings or Settings(), old, accepts=False)
        for name, one in named.items()
    )
    failed = own_failure or any(measurement.fails for measurement in measurements)
    return ReportedTest(
        nodeid=nodeid,
        file=nodeid.partition("::")[0],
        line=line,
        outcome="failed" if failed else "passed",
        own_failure=own_failure,
        measurements=measurements,
    )


def report(*tests: ReportedTest, exit_status: int | None = None, **run: object) -> Report:
    status = int(any(test.outcome == "failed" for test in tests)) if exit_status is None else exit_status
    versions = {"plugin": "0.1.0", "pytest": "9.0.0", "torch": "2.6.0", "python": "3.11.0"}
    return make_report(Run(exit_status=status, **(versions | run)), tests)


class GitProject:
    """A git repository in a new folder. The user's git settings do not affect it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main", "--template=")

    def git(self, *args: str, date: str = "2026-01-01") -> str:
        """Run git, and return its output without blanks around it."""
        who = {"NAME": "Ada", "EMAIL": "ada@example.invalid", "DATE": f"{date}T12:00:00+0000"}
        env = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
        alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        command = ["git", *args]
        run = subprocess.run(
            command, cwd=self.path, env=os.environ | env | alone, capture_output=True, text=True, check=True
        )
        return run.stdout.strip()

    def commit(self, subject: str, tests: dict[str, dict[str, Complexity]] | None = None, date: str = "2026-01-01"):
        """Write the baseline of each test file and commit everything. Return the short hash of the commit."""
        for file, entries in (tests or {}).items():
            test_file = self.path / file
            test_file.parent.mkdir(parents=True, exist_ok=True)
            test_file.touch()
            write_baseline(test_file, entries)
        self.git("add", "--all")
        told = self.git("commit", "--allow-empty", "-m", subject, date=date)
        # git writes "[main (root-commit) 1a2b3c4] subject".
        return told.partition("]")[0].rpartition(" ")[2]
