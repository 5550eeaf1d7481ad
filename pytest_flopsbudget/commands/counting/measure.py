"""``measure TARGET...``: count models without a test."""

from __future__ import annotations

import argparse
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
    from pytest_flopsbudget.commands.console import Output
    from pytest_flopsbudget.results.complexity import Complexity

SUMMARY = "count a model: a table of its modules, JSON, a page, or files for profilers"
DESCRIPTION = f"""\
Count one call of each model, on shapes alone where the model allows it, and show its modules.

{TARGETS}"""
EXAMPLES = """\
examples:
  flopsbudget measure mypkg.net:build --input 1x3x224x224
  flopsbudget measure hf:gpt2 --input 1x1024:int64 --depth 2 --on A100
  flopsbudget measure mypkg.net:small mypkg.net:large --input 1x3x224x224 --html page.html
"""


def _depth(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of levels; write a whole number, as in --depth 2")
    return int(text[:9])  # Python refuses numbers of thousands of digits, and no model has a billion levels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``measure`` to ``parser``."""
    parser.add_argument("targets", metavar="TARGET", nargs="+", help="the model to count; see above")
    parser.add_argument("--depth", metavar="N", type=_depth, help="show N levels of modules below the model")
    add_target_arguments(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Count the models.

    Returns:
        0, or 2 if a model could not be counted.

    Raises:
        UsageError: a target or an option has the wrong form, a device or a metric is unknown, or a file cannot be
            written.
    """
    targets = parse_targets(arguments.targets, arguments)
    measured: list[tuple[str, Complexity]] = []
    for target, complexity in measure_all(targets, arguments, output):
        if complexity is None:
            continue
        if arguments.json:
            output.document(f"{complexity.to_json()}\n")
        else:
            if measured:
                output.line()
            if len(targets) > 1:
                output.line(target.text)
            output.lines(_table(complexity, arguments).splitlines())
        measured.append((target.text, complexity))
    if measured:
        write_profiles(arguments, measured, output)
    if measured and arguments.html is not None:
        from pytest_flopsbudget.commands.counting.measured_page import page_text

        write_text(arguments.html, page_text(measured), output)
    return 0 if len(measured) == len(targets) else FAILED


def _table(complexity: Complexity, arguments: argparse.Namespace) -> str:
    from pytest_flopsbudget.quantities.metrics import devices_in, key_for
    from pytest_flopsbudget.results.table_text import printed_width

    metrics = metrics_of(arguments)
    devices = devices_in(complexity.metrics)
    if metrics is None and devices:
        metrics = ["flops", "params", *(key_for("time", name) for name in devices)]
    if metrics is None and arguments.depth is None:
        return str(complexity)
    table = complexity.table(depth=arguments.depth, metrics=metrics, width=printed_width())
    # The last line is written for `Complexity.table`, whose name means nothing on the command line.
    return table.replace("; table() shows all ", "; without --depth, there are ")
