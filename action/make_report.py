"""The first step of action.yml: run pytest or take a report, and make the HTML page.

The action passes its inputs as environment variables. The outputs of the step are the paths of the report and of the
page, both empty if there is no report, and the exit code with which the action ends.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

#: pytest's exit code for a wrong call.
USAGE = 4


def main() -> int:
    """Make the report and the page, and write the outputs of the step.

    Returns:
        The exit code of the step: 0 also if tests failed, so that the next steps publish the report.
    """
    folder = Path(os.environ["FLOPS_BUDGET_FOLDER"])
    folder.mkdir(parents=True, exist_ok=True)
    report, page = folder / "run.json", folder / "page.html"
    report.unlink(missing_ok=True)
    given = os.environ["FLOPS_BUDGET_REPORT"]
    if given:
        if not Path(given).is_file():
            print(f"::error::report: {given}: no such file in {Path.cwd()}; name a report of --flops-budget-json")
            return USAGE
        shutil.copyfile(given, report)
        code = 0
    else:
        code = run_pytest(report)
    if report.exists() and code_of_page(report, page):
        return USAGE
    made = report.exists()
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as outputs:
        outputs.write(f"exit-code={code}\nreport={report if made else ''}\npage={page if made else ''}\n")
    return 0


def run_pytest(report: Path) -> int:
    """Run pytest with the arguments of the action, and return its exit code."""
    if os.environ.get("GITHUB_EVENT_NAME") in {"pull_request_target", "workflow_run"}:
        event = os.environ["GITHUB_EVENT_NAME"]
        print(f"::error::{event} would run a pull request's code with a token that may write; use pull_request")
        return USAGE
    arguments = shlex.split(os.environ["FLOPS_BUDGET_ARGUMENTS"])
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, f"--flops-budget-json={report}"], check=False
    ).returncode


def code_of_page(report: Path, page: Path) -> int:
    """Make the page of the report, and return the exit code."""
    command = [sys.executable, "-m", "pytest_flopsbudget", "page", str(report), "-o", str(page)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
