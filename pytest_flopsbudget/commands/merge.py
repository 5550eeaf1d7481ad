"""``merge REPORT... -o REPORT``: the reports of CI's shards as one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from pytest_flopsbudget.commands.console import Output

SUMMARY = "join the reports of CI shards into the one of a single run"
DESCRIPTION = """\
Join the reports that the shards of one run wrote with --flops-budget-json. The joint report equals the one of a single
run, and so does its verdict: the exit code is 1 where a test failed in any of them.
"""
EXAMPLES = """\
examples:
  python -m pytest_flopsbudget merge shard-1.json shard-2.json -o report.json
  python -m pytest_flopsbudget merge shards/*.json -o report.json
"""

#: What a run ended with that no test tells of.
_ENDED = {2: "a run was interrupted", 3: "pytest itself failed in a run", 4: "a run was called wrongly"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("reports", metavar="REPORT", nargs="+", help="a report that --flops-budget-json wrote")
    parser.add_argument("-o", "--output", metavar="REPORT", required=True, help="where to write the joint one")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Join them.

    Raises:
        UsageError: a report cannot be read or written, or they are not of one run.
    """
    from pytest_flopsbudget.reports.wording import pluralize  # noqa: PLC0415 -- what brings msgspec is not needed for --help
    from pytest_flopsbudget.results import merge  # noqa: PLC0415
    from pytest_flopsbudget.storage import report_file  # noqa: PLC0415

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
