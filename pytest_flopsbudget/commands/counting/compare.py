"""``compare A B``: count two models and show the modules that differ."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_flopsbudget.commands.counting.options import (
    FAILED,
    TARGETS,
    add_target_arguments,
    measure_all,
    metrics_of,
    parse_targets,
)
from pytest_flopsbudget.commands.profile_files import write_profiles, write_text

if TYPE_CHECKING:
    import argparse

    from pytest_flopsbudget.commands.console import Output

SUMMARY = "count two models and show the modules that differ"
DESCRIPTION = f"""\
Count one call of each of two models, and show the modules that differ.

{TARGETS}"""
EXAMPLES = """\
examples:
  flopsbudget compare 'mypkg.net:build(18)' 'mypkg.net:build(34)' --input 1x3x224x224
  flopsbudget compare hf:gpt2 hf:gpt_neo --input 1x128:int64 --metrics flops,params
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``compare`` to ``parser``."""
    parser.add_argument("old", metavar="A", help="the first model, a TARGET")
    parser.add_argument("new", metavar="B", help="the second model, a TARGET")
    add_target_arguments(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Count the two models and compare them.

    Returns:
        0, or 2 if a model could not be counted.

    Raises:
        UsageError: a target or an option has the wrong form, a device or a metric is unknown, or a file cannot be
            written.
    """
    targets = parse_targets([arguments.old, arguments.new], arguments)
    measured = [(target.text, found) for target, found in measure_all(targets, arguments, output) if found is not None]
    if len(measured) < len(targets):
        return FAILED
    from pytest_flopsbudget.results.complexity_diff import compare
    from pytest_flopsbudget.results.table_text import printed_width

    (_, old), (_, new) = measured
    difference = compare(old, new)
    if arguments.json:
        output.document(f"{json.dumps(difference.to_dict())}\n")
    else:
        output.line(output.screen.text(f"{targets[0].text} -> {targets[1].text}"))
        output.lines(difference.table(metrics=metrics_of(arguments), width=printed_width()).splitlines())
    write_profiles(arguments, measured, output)
    if arguments.html is not None:
        from pytest_flopsbudget.commands.counting.measured_page import page_text

        write_text(arguments.html, page_text(measured[1:], before=measured[0]), output)
    return 0
