"""``merge REPORT... -o REPORT``: join the reports of CI shards into one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from pytest_flopsbudget.commands.console import Output

SUMMARY = "join the reports of CI shards into one report"
DESCRIPTION = """\
Join the reports that the shards of one run wrote with --flops-budget-json. The joint report equals the report of a
single run, and so does its verdict: the exit code is 1 if a test failed in any shard.
"""
EXAMPLES = """\
examples:
  flopsbudget merge shard-1.json shard-2.json -o report.json
  flopsbudget merge shards/*.json -o report.json
"""

#: Exit status of pytest → description of a failure that belongs to no test.
_ENDED = {2: "a run was interrupted", 3: "pytest itself failed in a run", 4: "a run was called wrongly"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``merge`` to ``parser``."""
    parser.add_argument("reports", metavar="REPORT", nargs="+", help="a report that --flops-budget-json wrote")
    parser.add_argument("-o", "--output", metavar="REPORT", required=True, help="the file for the joint report")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Join the reports.

    Raises:
        UsageError: a report cannot be read or written, or the reports belong to different runs.
    """
    from pytest_flopsbudget.results import merge
    from pytest_flopsbudget.safe_text import pluralize
    from pytest_flopsbudget.storage import report_file

    if arguments.output in {"", "-"}:
        raise UsageError(f"-o {arguments.output or repr('')}: names no file; write -o REPORT")
    paths = list(dict.fromkeys(arguments.reports))
    if len(paths) < len(arguments.reports):
        twice = next(path for path in paths if arguments.reports.count(path) > 1)
        raise UsageError(f"{twice} is named twice; name each report once")
    report = merge.merge_reports({path: report_file.load(Path(path)) for path in paths})
    report_file.save(report, Path(arguments.output))
    measurements = sum(len(test.measurements) for test in report.tests)
    for test in merge.failing(report):
        outcomes = dict.fromkeys(measurement.outcome for measurement in test.measurements if measurement.fails)
        output.line(f"FAILED {test.nodeid}{': ' if outcomes else ''}{', '.join(outcomes)}")
    if report.run.exit_status in _ENDED:
        output.line(_ENDED[report.run.exit_status])
    output.line(
        f"{pluralize(len(paths), 'report')}, {pluralize(len(report.tests), 'test')}, "
        f"{pluralize(measurements, 'measurement')}: {'failed' if merge.fails(report) else 'passed'}"
    )
    output.line(f"report written: {arguments.output}")
    return 1 if merge.fails(report) else 0
