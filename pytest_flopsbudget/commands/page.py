"""``page REPORT -o PAGE``: make the HTML page of a run from its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pytest_flopsbudget.commands.console import Output
    from pytest_flopsbudget.storage.history import Series

SUMMARY = "make the HTML page of a run from its report"
DESCRIPTION = """\
Make the page that --flops-budget-html makes, from a report that --flops-budget-json wrote: verdicts, and for each
measurement its metrics, module tree, operators and roofline. The page is one file and loads nothing from outside.
"""
EXAMPLES = """\
examples:
  flopsbudget page report.json -o page.html
  flopsbudget page report.json --history -o page.html     in the folder where pytest ran
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``page`` to ``parser``."""
    parser.add_argument("report", metavar="REPORT", help="a report that --flops-budget-json wrote")
    parser.add_argument(
        "--history", action="store_true", help="show how the baselines changed in the commits of this repository"
    )
    parser.add_argument("-o", "--output", metavar="PAGE", required=True, help="the file for the page")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Make the page.

    Raises:
        UsageError: the report cannot be read, the page cannot be written, or there is no repository for --history.
    """
    from pytest_flopsbudget.reports.html import page
    from pytest_flopsbudget.storage import report_file
    from pytest_flopsbudget.storage.atomic_file import write_report

    if arguments.output in {"", "-"}:
        raise UsageError(f"-o {arguments.output or repr('')}: names no file; write -o PAGE")
    report = report_file.load(Path(arguments.report))
    history = _history(output) if arguments.history else ()
    write_report(Path(arguments.output), page.text(report, history).encode("utf-8", "backslashreplace"))
    output.line(f"page written: {arguments.output}")
    return 0


def _history(output: Output) -> Sequence[Series]:
    from pytest_flopsbudget.commands import git
    from pytest_flopsbudget.commands.history import read_steps
    from pytest_flopsbudget.storage.history import trace

    folder = Path.cwd()
    return trace(read_steps(git.Repository(folder), folder, output))
