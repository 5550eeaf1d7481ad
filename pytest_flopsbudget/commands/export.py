"""``export REPORT``: write the measurements of a report in the file formats of profilers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.commands.profile_files import add_profile_arguments, check_profile_arguments, write_profiles
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from pytest_flopsbudget.commands.console import Output

SUMMARY = "write the measurements of a report for speedscope, flame graphs or Model Explorer"
DESCRIPTION = """\
Write the measurements of a report, which --flops-budget-json wrote, in the file formats of profilers. The modules of a
model are the stacks, and the value of a metric takes the place of time.
"""
EXAMPLES = """\
examples:
  flopsbudget export report.json --speedscope profile.json
  flopsbudget export report.json --collapsed stacks.txt --metric params
  flopsbudget export report.json --model-explorer net.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``export`` to ``parser``."""
    parser.add_argument("report", metavar="REPORT", help="a report that --flops-budget-json wrote")
    add_profile_arguments(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Write the files.

    Raises:
        UsageError: no file is requested, the report cannot be read or has no measurement, a measurement has no sum of
            the metric over modules, or a file cannot be written.
    """
    from pytest_flopsbudget.reports.cells import label
    from pytest_flopsbudget.storage import report_file

    if arguments.speedscope is None and arguments.collapsed is None and arguments.model_explorer is None:
        raise UsageError("export: no file is requested; write --speedscope, --collapsed or --model-explorer PATH")
    check_profile_arguments(arguments)
    report = report_file.load(Path(arguments.report))
    measurements = [
        (label(test.nodeid, one.name, alone=len(test.measurements) == 1), one.complexity)
        for test in report.tests
        for one in test.measurements
    ]
    if not measurements:
        raise UsageError(f"{arguments.report} has no measurement")
    write_profiles(arguments, measurements, output)
    return 0
